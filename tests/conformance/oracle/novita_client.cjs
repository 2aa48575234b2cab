// Run the official Novita client, unmodified: `node novita_client.cjs CLIENT BASE_URL KEY < calls`.
// Each line in is {"url", "data"}; each line out is what the client made of it.
const [client, baseUrl, key] = process.argv.slice(2);
const { NovitaSDK } = require(client);

const sdk = new NovitaSDK(key);
sdk.setBaseUrl(baseUrl);

async function main() {
  const lines = require("node:fs").readFileSync(0, "utf8").split("\n").filter(Boolean);
  for (const line of lines) {
    const { url, data } = JSON.parse(line);
    try {
      process.stdout.write(JSON.stringify({ answer: await sdk.httpFetch({ url, method: "POST", data }) }) + "\n");
    } catch (error) {
      const { code, reason, msg, metadata } = error;
      process.stdout.write(JSON.stringify({ code, reason, message: msg, metadata }) + "\n");
    }
  }
}

main();

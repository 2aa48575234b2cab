// Makes one edit after another with the official Novita client, unmodified, and tells how long each took:
// `node official_novita.cjs CLIENT API_ROOT KEY`. Each line in is {"url", "data"}; each line out is
// {"known_s", "urls"}: the seconds from the call until its result URLs are known.
const [client, root, key] = process.argv.slice(2);
const { NovitaSDK } = require(client);

const sdk = new NovitaSDK(key);
sdk.setBaseUrl(root);

async function main() {
  for await (const line of require("node:readline").createInterface({ input: process.stdin })) {
    const { url, data } = JSON.parse(line);
    const began = performance.now();
    const answer = await sdk.httpFetch({ url, method: "POST", data });
    const known_s = (performance.now() - began) / 1000;
    process.stdout.write(JSON.stringify({ known_s, urls: answer.images }) + "\n");
  }
}

main();

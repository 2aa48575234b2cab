// Points the official EvoLink MCP server (npm @evolinkai/evolink-media) at a local API, without touching its files:
// its two hosts are constants, so they are rewritten in what it fetches.
//
//   TRIPTYCH_EVOLINK_BASE_URL=http://127.0.0.1:8901 node --import ./evolink_on_loopback.mjs …/evolink-media/src/index.js
const base = process.env.TRIPTYCH_EVOLINK_BASE_URL;
if (!base) throw new Error("TRIPTYCH_EVOLINK_BASE_URL is not set");

const hosts = ["https://api.evolink.ai", "https://files-api.evolink.ai"];
const send = globalThis.fetch;
globalThis.fetch = (url, options) => {
  const host = hosts.find((known) => String(url).startsWith(known + "/"));
  if (!host) throw new Error(`an unexpected host: ${url}`);
  return send(base + String(url).slice(host.length), options);
};

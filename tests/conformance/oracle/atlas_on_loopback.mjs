// Points the official Atlas Cloud MCP server (npm atlascloud-mcp) at a local API, without touching its files:
// its three base URLs are constants in dist/constants.js, so they are rewritten while that one module is loaded.
//
//   TRIPTYCH_ATLAS_BASE_URL=http://127.0.0.1:8901 node --import ./atlas_on_loopback.mjs …/atlascloud-mcp/dist/index.js
import { register } from "node:module";

const base = process.env.TRIPTYCH_ATLAS_BASE_URL;
if (!base) throw new Error("TRIPTYCH_ATLAS_BASE_URL is not set");

const hooks = `
const base = ${JSON.stringify(base)};
export async function load(url, context, nextLoad) {
  const loaded = await nextLoad(url, context);
  if (!url.endsWith("/atlascloud-mcp/dist/constants.js")) return loaded;
  const source = String(loaded.source);
  const pointed = source.replaceAll("https://api.atlascloud.ai", base);
  if (pointed.split(base).length !== 4) throw new Error("expected three base URLs in constants.js");
  return { ...loaded, source: pointed };
}`;
register("data:text/javascript," + encodeURIComponent(hooks));

// The TypeScript client of the initialize era: the same over streamable HTTP or SSE.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
const [url, mode, home] = process.argv.slice(2);
const from = createRequire(home + "/package.json");
const load = (name) => import(pathToFileURL(from.resolve(name)));
const { Client } = await load("@modelcontextprotocol/sdk/client/index.js");
const { StreamableHTTPClientTransport } = await load("@modelcontextprotocol/sdk/client/streamableHttp.js");
const { SSEClientTransport } = await load("@modelcontextprotocol/sdk/client/sse.js");
const client = new Client({ name: "judge", version: "1" });
const Transport = mode === "sse" ? SSEClientTransport : StreamableHTTPClientTransport;
await client.connect(new Transport(new URL(url)));
const { tools } = await client.listTools();
const made = await client.callTool({ name: "generate_sequence", arguments: { prompt: "a lighthouse at dusk", count: 2 } });
const refused = await client.callTool({ name: "edit_sequence", arguments: { images: ["img_00000000"], prompt: "x" } });
const read = await client.readResource({ uri: "triptych://jobs/" + made.structuredContent.job_id });
console.log(JSON.stringify({ tools: tools.map((tool) => tool.name), made, refused, read }));
await client.close();

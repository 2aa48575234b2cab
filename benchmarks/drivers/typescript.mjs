// Both official TypeScript clients, which have no model. The argument is modern (@modelcontextprotocol/client) or classic
// (@modelcontextprotocol/sdk).
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { work } from "./raw.mjs";

const setup = JSON.parse(process.argv[2]);
const modern = process.argv[3] === "modern";
const from = createRequire(setup.packages + "/package.json");
const load = (name) => import(pathToFileURL(from.resolve(name)));

const names = modern
  ? ["@modelcontextprotocol/client", "@modelcontextprotocol/client/stdio"]
  : ["index.js", "stdio.js", "streamableHttp.js"].map((file) => "@modelcontextprotocol/sdk/client/" + file);
const sdk = Object.assign({}, ...(await Promise.all(names.map(load))));

const [command, ...args] = setup.command;
const transport = setup.url
  ? new sdk.StreamableHTTPClientTransport(new URL(setup.url))
  : new sdk.StdioClientTransport({ command, args, env: setup.env, cwd: setup.cwd, stderr: "inherit" });
const client = new sdk.Client(
  { name: "clients", version: "1" },
  modern ? { versionNegotiation: { mode: "auto" } } : {},
);
await client.connect(transport);
const { tools } = await client.listTools();
await work(setup.api, tools, (name, given) => client.callTool({ name, arguments: given }));
await client.close();

// The Inspector's command line, which has no model; a process and a connection for each call.
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { promisify } from "node:util";
import { work } from "./raw.mjs";

const setup = JSON.parse(process.argv[2]);
const from = createRequire(setup.packages + "/package.json");
const program = join(
  setup.packages,
  "node_modules/@modelcontextprotocol/inspector",
  Object.values(from("@modelcontextprotocol/inspector/package.json").bin)[0],
);
const [command, ...args] = setup.command;
const server = setup.url ? { type: "http", url: setup.url } : { command, args, env: setup.env };
const config = join(setup.cwd, "mcp.json");
writeFileSync(config, JSON.stringify({ mcpServers: { triptych: server } }));

async function inspect(...more) {
  const where = [program, "--cli", "--config", config, "--server", "triptych", ...more];
  const { stdout } = await promisify(execFile)(process.execPath, where, { cwd: setup.cwd, maxBuffer: 1 << 28 });
  return JSON.parse(stdout);
}

const { tools } = await inspect("--method", "tools/list");
await work(setup.api, tools, (name, given) => {
  const pairs = Object.entries(given).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
  return inspect("--method", "tools/call", "--tool-name", name, ...pairs.flatMap((pair) => ["--tool-arg", pair]));
});

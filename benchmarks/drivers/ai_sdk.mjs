// @ai-sdk/mcp: generateText of the AI SDK with OpenAI's responses as its model. With the argument "initialize" it does not
// ask for the protocol's version first, for which it gives a server 1 s.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const setup = JSON.parse(process.argv[2]);
const from = createRequire(setup.packages + "/package.json");
const load = (name) => import(pathToFileURL(from.resolve(name)));
const { generateText, stepCountIs } = await load("ai");
const { createOpenAI } = await load("@ai-sdk/openai");
const { createMCPClient } = await load("@ai-sdk/mcp");
const { Experimental_StdioMCPTransport } = await load("@ai-sdk/mcp/mcp-stdio");

const [command, ...args] = setup.command;
const transport = setup.url
  ? { type: "http", url: setup.url }
  : new Experimental_StdioMCPTransport({ command, args, env: setup.env, cwd: setup.cwd });
const client = await createMCPClient({ transport, protocolVersionDiscovery: process.argv[3] !== "initialize" });
try {
  const model = createOpenAI({ baseURL: setup.api + "/openai", apiKey: "none" })("scripted");
  const tools = await client.tools();
  const { text } = await generateText({ model, tools, prompt: "Begin.", stopWhen: stepCountIs(60), maxRetries: 0 });
  console.log(text);
} finally {
  await client.close();
}

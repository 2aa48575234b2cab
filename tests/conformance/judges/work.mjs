// What a host does with Triptych, by either of the official TypeScript clients over any transport; the answers go to
// stdout as JSON.
//
//   node work.mjs CLIENT ERA TRANSPORT WHERE PACKAGES IMAGE
//
// CLIENT is modern (@modelcontextprotocol/client) or classic (@modelcontextprotocol/sdk), ERA auto or legacy, WHERE a URL
// or, for stdio, a command as JSON, PACKAGES the folder whose node_modules has the clients.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [which, era, transport, where, packages, image] = process.argv.slice(2);
const from = createRequire(packages + "/package.json");
const load = (name) => import(pathToFileURL(from.resolve(name)));
const modern = which === "modern";

async function parts() {
  if (modern) {
    return { ...(await load("@modelcontextprotocol/client")), ...(await load("@modelcontextprotocol/client/stdio")) };
  }
  const folder = "@modelcontextprotocol/sdk/";
  const files = ["client/index.js", "client/stdio.js", "client/streamableHttp.js", "client/sse.js", "types.js"];
  return Object.assign({}, ...(await Promise.all(files.map((file) => load(folder + file)))));
}

const sdk = await parts();

function wire() {
  if (transport === "http") return new sdk.StreamableHTTPClientTransport(new URL(where));
  if (transport === "sse") return new sdk.SSEClientTransport(new URL(where));
  const [command, ...args] = JSON.parse(where);
  return new sdk.StdioClientTransport({ command, args, env: process.env, stderr: "inherit" });
}

const client = new sdk.Client(
  { name: "judge", version: "1" },
  modern && era === "auto" ? { versionNegotiation: { mode: "auto" } } : {},
);
const updated = [];
let listChanged = 0;
const hear = (method, schema, handler) => client.setNotificationHandler(modern ? method : sdk[schema], handler);
hear("notifications/resources/updated", "ResourceUpdatedNotificationSchema", ({ params }) => updated.push(params.uri));
hear("notifications/resources/list_changed", "ResourceListChangedNotificationSchema", () => void listChanged++);
await client.connect(wire());

async function call(name, args, options) {
  const request = { name, arguments: args };
  return modern ? client.callTool(request, options) : client.callTool(request, undefined, options);
}

async function heard(what, wanted) {
  for (const end = Date.now() + 30_000; !wanted(); await new Promise((next) => setTimeout(next, 20))) {
    if (Date.now() > end) throw new Error(`never heard ${what}; heard ${JSON.stringify({ updated, listChanged })}`);
  }
}

const { tools } = await client.listTools();
const uploaded = await call("upload_images", { images: [image] });
const handle = uploaded.structuredContent.images[0].handle;

const jobs = "triptych://jobs";
const listens = modern && era === "auto";
const subscription = listens
  ? await client.listen({ resourceSubscriptions: [jobs], resourcesListChanged: true })
  : await client.subscribeResource({ uri: jobs });
const progress = [];
const edited = await call(
  "edit_sequence",
  { images: [handle], prompt: "warm; cool", count: 2, again: true },
  { onprogress: ({ progress: done, total }) => progress.push([done, total]) },
);
await heard("that the jobs changed", () => updated.includes(jobs));
await heard("that there are new images", () => listChanged > 0);
if (listens) await subscription.close();
else await client.unsubscribeResource({ uri: jobs });

const { job_id, images } = edited.structuredContent;
const status = await call("get_status", { job_id, wait_s: 0 });
const refused = await call("edit_sequence", { images: ["img_00000000"], prompt: "x" });
const unknown = await call("edit_image", {}).then(
  () => null,
  ({ code, message }) => ({ code, message }),
);
const { resources } = await client.listResources();
const { resourceTemplates } = await client.listResourceTemplates();
const job = await client.readResource({ uri: `triptych://jobs/${job_id}` });
const preview = await client.readResource({ uri: images[0].uri });
const missing = await client.readResource({ uri: "triptych://nothing" }).then(
  () => null,
  ({ code }) => ({ code }),
);
const { prompts } = await client.listPrompts();
const prompt = await client.getPrompt({ name: "seasonal_variants", arguments: { image: handle } });
// Each file is verified against the digest, the size and the frontmatter of its entry.
const skills = {};
if (listens) {
  const { SkillsClient } = await load("@modelcontextprotocol/client/ext/skills");
  const host = new SkillsClient(client);
  for (const entry of (await host.list()).skills) {
    const got = (await host.get(entry.uri)).skill;
    skills[entry.frontmatter.name] = (await host.read(got)).verified;
  }
}
const ref = { type: "ref/prompt", name: "seasonal_variants" };
const completed = await client.complete({ ref, argument: { name: "image", value: images[0].handle.slice(0, 8) } });

console.log(
  JSON.stringify({
    version: modern ? client.getNegotiatedProtocolVersion() : null,
    server: client.getServerVersion(),
    tools: tools.map(({ name }) => name),
    handle,
    edited,
    progress,
    updated: [...new Set(updated)],
    status,
    refused,
    unknown,
    resources: resources.map(({ uri }) => uri),
    templates: resourceTemplates.map(({ uriTemplate }) => uriTemplate),
    job,
    preview,
    missing,
    prompts: prompts.map(({ name }) => name),
    prompt,
    skills,
    completed,
  }),
);
await client.close();

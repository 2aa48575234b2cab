// A host that signs in: either of the official TypeScript clients finds the identity provider, registers itself, gets a
// token and calls tools; where a call needs more than the token allows, it signs in once more. The answers go to stdout.
//
//   node sign_in.mjs CLIENT WHERE PACKAGES
//
// CLIENT is modern (@modelcontextprotocol/client) or classic (@modelcontextprotocol/sdk), WHERE a URL, PACKAGES the
// folder whose node_modules has the clients. The provider asks nobody: its page is a redirect with the code.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [which, where, packages] = process.argv.slice(2);
const from = createRequire(packages + "/package.json");
const load = (name) => import(pathToFileURL(from.resolve(name)));
const modern = which === "modern";
const folder = "@modelcontextprotocol/sdk/";
const files = ["client/index.js", "client/streamableHttp.js", "client/auth.js"];
const sdk = modern
  ? await load("@modelcontextprotocol/client")
  : Object.assign({}, ...(await Promise.all(files.map((file) => load(folder + file)))));

const known = {};
const asked = [];
let back;
const provider = {
  redirectUrl: "http://127.0.0.1:9/callback",
  clientMetadata: {
    client_name: "judge",
    redirect_uris: ["http://127.0.0.1:9/callback"],
    token_endpoint_auth_method: "none",
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
  },
  clientInformation: () => known.client,
  saveClientInformation: (client) => void (known.client = client),
  tokens: () => known.tokens,
  saveTokens: (tokens) => void (known.tokens = tokens),
  codeVerifier: () => known.verifier,
  saveCodeVerifier: (verifier) => void (known.verifier = verifier),
  saveDiscoveryState: (state) => void (known.discovery = state),
  discoveryState: () => known.discovery,
  invalidateCredentials: () => void delete known.tokens,
  async redirectToAuthorization(url) {
    asked.push({ scope: url.searchParams.get("scope"), resource: url.searchParams.get("resource") });
    const answer = await fetch(url, { redirect: "manual" });
    back = new URL(answer.headers.get("location")).searchParams;
  },
};

async function signedIn(transport, attempt) {
  for (let tries = 0; ; tries++) {
    try {
      return await attempt();
    } catch (error) {
      if (!back || tries > 2) throw error;
      await transport.finishAuth(modern ? back : back.get("code"));
      back = undefined;
    }
  }
}

async function connected() {
  let transport;
  const client = new sdk.Client(
    { name: "judge", version: "1" },
    modern ? { versionNegotiation: { mode: "auto" } } : {},
  );
  for (let tries = 0; ; tries++) {
    transport = new sdk.StreamableHTTPClientTransport(new URL(where), { authProvider: provider });
    try {
      await client.connect(transport);
      return { client, transport };
    } catch (error) {
      if (!back || tries > 2) throw error;
      await transport.finishAuth(modern ? back : back.get("code"));
      back = undefined;
    }
  }
}

const { client, transport } = await connected();
const { tools } = await client.listTools();
const listed = await client.callTool({ name: "list_jobs", arguments: {} });
const made = await signedIn(transport, () =>
  client.callTool({ name: "generate_sequence", arguments: { prompt: "a barn", size: "400x300" } }),
);
process.stdout.write(
  JSON.stringify({
    tools: tools.length,
    jobs: listed.structuredContent.jobs.length,
    status: made.structuredContent?.status,
    asked,
    granted: known.tokens.scope,
  }),
);
await client.close();
process.exit(0);

// Hosts that are programs: each gets its own configuration in an empty home, one prompt, and the stand-in as its model's
// API. The argument is claude, codex, gemini or opencode.
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";

const setup = JSON.parse(process.argv[2]);
const home = homedir();
const modules = join(setup.packages, "node_modules");
const [command, ...args] = setup.command;

function written(name, content) {
  const path = join(home, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
  return path;
}

// A package's program for Node.
function entry(name) {
  const folder = join(modules, name);
  const { bin } = JSON.parse(readFileSync(join(folder, "package.json")));
  return [process.execPath, join(folder, typeof bin === "string" ? bin : Object.values(bin)[0])];
}

// A program for this system, in one of the packages whose names start so.
function native(scope, start, path) {
  const folder = join(modules, scope);
  const found = readdirSync(folder).filter((name) => name.startsWith(start)).map((name) => join(folder, name, path));
  return [found.flatMap((file) => [file, file + ".exe"]).find((file) => existsSync(file))];
}

const system = process.platform === "win32" ? "windows" : process.platform;
const toml = (value) => JSON.stringify(value);

const programs = {
  claude() {
    const server = setup.url ? { type: "http", url: setup.url } : { command, args, env: setup.env };
    const config = written("mcp.json", { mcpServers: { triptych: server } });
    const asked = ["-p", "Begin.", "--mcp-config", config, "--strict-mcp-config", "--allowedTools", "mcp__triptych"];
    return {
      run: [...native("@anthropic-ai", "claude-code-", "claude"), ...asked, "--model", "claude-sonnet-4-5"],
      env: {
        ANTHROPIC_BASE_URL: setup.api + "/anthropic",
        ANTHROPIC_API_KEY: "none",
        CLAUDE_CONFIG_DIR: join(home, ".claude"),
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
        DISABLE_AUTOUPDATER: "1",
      },
    };
  },
  codex() {
    const env = Object.entries(setup.env).map(([name, value]) => `${name} = ${toml(value)}`);
    const server = setup.url
      ? `url = ${toml(setup.url)}`
      : `command = ${toml(command)}\nargs = ${toml(args)}\nenv = { ${env.join(", ")} }`;
    written(
      ".codex/config.toml",
      `model = "gpt-5"
model_provider = "standin"
[model_providers.standin]
name = "stand-in"
base_url = ${toml(setup.api + "/openai")}
wire_api = "responses"
[mcp_servers.triptych]
required = true
${server}
`,
    );
    const free = ["--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"];
    return { run: [...entry("@openai/codex"), "exec", ...free, "Begin."], env: { CODEX_HOME: join(home, ".codex") } };
  },
  gemini() {
    const server = setup.url ? { httpUrl: setup.url } : { command, args, env: setup.env, cwd: setup.cwd };
    written(".gemini/settings.json", {
      mcpServers: { triptych: { ...server, trust: true } },
      security: { auth: { selectedType: "gemini-api-key" } },
      privacy: { usageStatisticsEnabled: false },
      general: { enableAutoUpdate: false },
    });
    return {
      run: [...entry("@google/gemini-cli"), "-p", "Begin.", "--yolo", "--skip-trust", "-m", "gemini-2.5-pro"],
      env: { GEMINI_API_KEY: "none", GOOGLE_GEMINI_BASE_URL: setup.api + "/gemini" },
    };
  },
  opencode() {
    const server = setup.url
      ? { type: "remote", url: setup.url }
      : { type: "local", command: setup.command, environment: setup.env };
    written(".config/opencode/opencode.json", {
      autoupdate: false,
      share: "disabled",
      provider: {
        standin: {
          npm: "@ai-sdk/openai-compatible",
          options: { baseURL: setup.api + "/openai", apiKey: "none" },
          models: { scripted: { tool_call: true, attachment: true, modalities: { input: ["text", "image"] } } },
        },
      },
      mcp: { triptych: { ...server, enabled: true } },
    });
    return {
      run: [...native(".", `opencode-${system}-`, "bin/opencode"), "run", "-m", "standin/scripted", "Begin."],
      env: { OPENCODE_DISABLE_MODELS_FETCH: "1", OPENCODE_DISABLE_AUTOUPDATE: "1" },
    };
  },
};

const { run, env } = programs[process.argv[3]]();
const [program, ...given] = run;
const child = spawn(program, given, {
  cwd: setup.cwd,
  env: { ...process.env, ...env },
  stdio: ["ignore", "inherit", "inherit"],
});
child.on("exit", (code) => process.exit(code ?? 1));
for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => child.kill(signal));

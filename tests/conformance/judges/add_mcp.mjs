// Let add-mcp write each entry into a scratch home on a platform, and print the files.
// node add_mcp.mjs LIBRARY PLATFORM PROJECT < [{agent, local, config}]
import { readFileSync, rmSync } from 'node:fs';

const [library, platform, cwd] = process.argv.slice(2);
Object.defineProperty(process, 'platform', { value: platform });
const { agents, upsertServer } = await import(library);
const wanted = JSON.parse(readFileSync(0, 'utf-8'));
const written = wanted.map(({ agent, local, config }) => {
  const { success, path, error } = upsertServer(agent, 'triptych', config, { local, cwd });
  if (!success) return { agent, local, error };
  const text = readFileSync(path, 'utf-8');
  rmSync(path);
  return { agent, local, path, text };
});
console.log(JSON.stringify({ agents: Object.keys(agents), written }));

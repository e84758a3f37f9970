// `make cluster` and `make cluster-down`: `run.ts up [NODES]`, `run.ts down`. What a killed run left behind is removed by the next one.
import { once } from 'node:events';
import { createServer } from 'node:net';
import { relative } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { processes } from './cgroups.ts';
import { down, keepLogs, kubectl, NODES, nodeNames, up } from './cluster.ts';
import { stop } from './commands.ts';
import { KUBECONFIG, KUBECTL, NAME } from './places.ts';

const SIGNALS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;
const begun = performance.now();

function say(text: string): void {
  console.error(`moat cluster: ${((performance.now() - begun) / 1000).toFixed(0).padStart(3)} s  ${text}`);
}

/** Only one at a time: the name is taken as long as this process lives. Throws where it is. */
async function claim(): Promise<void> {
  const server = createServer().listen(`\0${NAME}`).unref();
  try {
    await once(server, 'listening');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    throw new Error('another process brings a cluster up or takes it down: wait for it');
  }
}

async function bringUp(names: readonly string[]): Promise<void> {
  if (processes().length > 0 && (await answers())) {
    throw new Error('a cluster is up already: make cluster-down takes it down');
  }
  const left = await down();
  if (left > 0) say(`removed what an earlier run left: ${left} processes`);
  let code = 1;
  for (const [signal, its] of Object.entries(SIGNALS)) {
    process.on(signal, () => {
      code = its;
      stop.abort();
    });
  }
  try {
    await up(say, { names });
  } catch (error) {
    // Ctrl-C reaches the programs that are run here as well, and their end may be known first.
    await pause(50);
    if (stop.signal.aborted) say('interrupted: what is there is taken down');
    else complain(error);
    const logs = keepLogs();
    if (!stop.signal.aborted) say(`the logs of its daemons are in ${relative(process.cwd(), logs)}`);
    await down();
    process.exit(code);
  }
  say(`${names.length} nodes are ready`);
  const [tool, config] = [KUBECTL, KUBECONFIG].map((path) => relative(process.cwd(), path));
  console.log(`${tool} --kubeconfig ${config} get nodes`);
}

/** True where an API server is there, and has both nodes. */
async function answers(): Promise<boolean> {
  try {
    return (
      (await kubectl(['get', 'nodes', '-o', 'name', '--request-timeout=5s'])).trim().split('\n').length >= NODES.length
    );
  } catch {
    return false;
  }
}

async function main(command: string | undefined, count = String(NODES.length)): Promise<void> {
  if (process.getuid?.() !== 0) throw new Error('a cluster takes namespaces and cgroups, which needs root');
  await claim();
  if (!['up', 'down'].includes(command ?? '') || !/^[1-9]$/.test(count))
    throw new Error('up, up with 1 to 9, or down?');
  if (command === 'up') return await bringUp(nodeNames(Number(count)));
  const ended = await down();
  say(ended === 0 ? 'there is no cluster' : `taken down: ${ended} processes ended`);
}

function complain(error: unknown): void {
  console.error(`moat cluster: ${error instanceof Error ? error.message : error}`);
}

main(process.argv[2], process.argv[3]).catch((error: unknown) => {
  complain(error);
  process.exitCode = 1;
});

// `moat agent`: the node daemon as a command.
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { diffWorlds } from '#cluster/world/diff.ts';
import { removeInstancePins } from '#kernel/bpffs.ts';
import { connectAgent } from '#sandbox/agent-client.ts';
import { AGENT_ENVIRONMENT, AGENT_FLAGS } from '#sandbox/agent-process.ts';
import { ClusterServer } from '#sandbox/cluster-server.ts';
import { worldOf } from '#test/support/worlds.ts';
import { instanceName } from './support/cluster.ts';
import { needsRoot } from './support/needs.ts';

const ROOT = join(import.meta.dirname, '..');
const SILENT = { flows: () => undefined, applied: () => undefined, problem: () => undefined, gone: () => undefined };

const WORLD = `apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop}
spec: {nodeName: one, containers: []}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: shop}
spec: {podSelector: {}}
`;

type Daemon = { readonly child: ChildProcess; readonly said: () => string; readonly exit: Promise<unknown[]> };

function start(context: TestContext, args: readonly string[]): Daemon {
  const child = spawn('./moat', ['agent', ...args], { cwd: ROOT, stdio: ['ignore', 'ignore', 'pipe'] });
  let text = '';
  child.stderr?.setEncoding('utf8').on('data', (chunk) => {
    text += chunk;
  });
  context.after(() => child.kill('SIGKILL'));
  return { child, said: () => text, exit: once(child, 'exit') };
}

async function until<T>(what: string, look: () => Promise<T | null>): Promise<T> {
  for (let waited = 0; waited < 10_000; waited += 50) {
    const found = await look();
    if (found !== null) return found;
    await pause(50);
  }
  throw new Error(`never came: ${what}`);
}

test('needs root: an agent waits for its cluster source, follows it, and ends at SIGTERM', needsRoot, async (t) => {
  const instance = instanceName();
  const folder = mkdtempSync(join(tmpdir(), 'moat-agent-'));
  // A namespace of its own: the machine's interfaces are none of its business.
  execFileSync('ip', ['netns', 'add', `moat-${instance}-one`]);
  t.after(() => {
    execFileSync('ip', ['netns', 'del', `moat-${instance}-one`]);
    removeInstancePins(instance);
    rmSync(folder, { recursive: true });
  });
  const [source, socket] = [join(folder, 'cluster.sock'), join(folder, 'agent.sock')];
  const sockets = ['--cluster-socket', source, '--socket', socket, '--netns', `/run/netns/moat-${instance}-one`];
  const args = ['--node', 'one', '--instance', instance, ...sockets];
  const daemon = start(t, args);
  const client = await until('the socket', () => connectAgent(socket, SILENT));
  await until('its first line', async () => daemon.said() || null);
  assert.equal(
    daemon.said(),
    `moat: agent of node one listens on ${socket}; its cluster source is ${source}, which nobody serves yet\n`,
  );

  const [line, environment] = ['cmdline', 'environ'].map((file) => {
    return readFileSync(`/proc/${daemon.child.pid}/${file}`, 'utf8').split('\0');
  });
  for (const flag of AGENT_FLAGS) assert.ok(line?.includes(flag), `${flag}, as a sandbox's agents have it`);
  for (const [name, value] of Object.entries(AGENT_ENVIRONMENT)) {
    if (name.startsWith('MALLOC_')) assert.ok(environment?.includes(`${name}=${value}`), `${name}, likewise`);
  }

  const second = start(t, args);
  assert.deepEqual(await second.exit, [2, null]);
  assert.match(
    second.said(),
    new RegExp(
      `^moat: the agent of node one can't start: another process \\(${daemon.child.pid}, [^)]+\\) runs the datapath`,
    ),
  );

  const cluster = new ClusterServer(source, diffWorlds);
  t.after(() => cluster.close());
  await cluster.listen();
  cluster.publish(worldOf(WORLD));
  const status = await until('the first list', async () => {
    const now = await client.status();
    return now.revision > 0 ? now : null;
  });
  assert.equal(status.node, 'one');
  assert.equal(status.pid, daemon.child.pid);
  assert.equal(status.policies, 1);
  assert.equal(status.problem, null);

  daemon.child.kill('SIGTERM');
  assert.deepEqual(await daemon.exit, [0, null]);
});

const MISUSE: readonly (readonly [what: string, args: readonly string[], message: RegExp])[] = [
  ['no node', [], /required option '--node <name>'/],
  ['a node that is no name', ['--node', '../x'], /'\.\.\/x' is invalid\. Use 1 to 63 lower-case letters/],
];

for (const [what, args, message] of MISUSE) {
  test(`an agent with ${what} gets one message and exit code 2`, () => assertRefused(args, message));
}

test('needs root: an agent of a bad instance, or in no namespace, gets one message and exit code 2', needsRoot, () => {
  assertRefused(['--node', 'one', '--instance', 'a-b'], /^moat: 'a-b' can't name a sandbox: use 1 to 16 lower-case/);
  assertRefused(
    ['--node', 'one', '--netns', '/run/netns/none'],
    /^moat: --netns \/run\/netns\/none: there is no such file/,
  );
});

function assertRefused(args: readonly string[], message: RegExp): void {
  const { status, stderr, stdout } = spawnSync('./moat', ['agent', ...args], { cwd: ROOT, encoding: 'utf8' });
  assert.equal(status, 2, stderr);
  assert.equal(stdout, '');
  assert.match(stderr, message);
  assert.ok(!/\n\s+at |this is a bug/.test(stderr), stderr);
}

test('an agent without root gets one message and exit code 2', () => {
  // Loaded before root is given up: nobody else may be able to read this folder.
  const program = `
    const { run } = await import('#cli/run.ts');
    await import('#cli/agent.ts');
    if (process.getuid() === 0) process.setuid(65534);
    console.log(await run(['agent', '--node', 'one']));`;
  const node = readFileSync(join(ROOT, '.moat/node'), 'utf8').trim();
  const child = spawnSync(node, ['--input-type=module', '-e', program], { cwd: ROOT, encoding: 'utf8' });
  assert.equal(child.stdout, '2\n', child.stderr);
  assert.equal(child.stderr, 'moat: an agent puts programs into the kernel, which needs root: run it with sudo\n');
});

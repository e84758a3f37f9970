// Manifests written to hurt, through `moat sandbox apply`: the command ends within a bound of time and memory, with an exit
// code and a diagnostic; the sandbox's agents live, and what was in force stays so, shown by real packets.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { TCP } from '#net/protocol.ts';
import { downSandbox, type SandboxClient } from '#sandbox/client.ts';
import { startDetached } from '#sandbox/detached.ts';
import { instanceName, podText, policyText, rowOf } from '#test/support/cluster.ts';
import { needsRoot } from '#test/support/needs.ts';

const ROOT = join(import.meta.dirname, '..');
/** Some times what the slowest takes beside fifteen processes on two cores. */
const LIMIT_MS = 120_000;
/** Of the command, of the sandbox's process and of an agent, in megabytes. */
const LIMIT_MB = { command: 2000, sandbox: 900, agent: 700 };
const MEGABYTE = 1 << 20;

const list = (count: number, item: (index: number) => string): string =>
  Array.from({ length: count }, (_, index) => item(index)).join(', ');
const documents = (count: number, item: (index: number) => string): string =>
  Array.from({ length: count }, (_, index) => item(index)).join('');
const block = (index: number): string =>
  `{ipBlock: {cidr: ${11 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}.0/24}}`;
/** Policies of one name, for a pod that nobody speaks to: each takes the place of the one before. */
const huge = (ingress: string): string =>
  policyText('huge', `podSelector: {matchLabels: {app: target}}\npolicyTypes: [Ingress]\ningress: [${ingress}]`);
const ODD_PORTS = list(32_768, (index) => `{port: ${2 * index + 1}}`);
const CALM = huge('');

const withAddress = (pod: string, address: string): string =>
  pod.replace('}}\n', `},"status":{"podIP":"${address}"}}\n`);

type Case = readonly [what: string, text: () => string, says: RegExp];

/** Refused: by the command alone, or by the sandbox before anything is changed. */
const REFUSED: readonly Case[] = [
  ['a name of 10 MB', () => CALM.replace('huge', 'x'.repeat(10 * MEGABYTE)), /error: .*is no valid name/],
  [
    'aliases that explode',
    () =>
      `a0: &a0 [${list(9, () => 'x')}]\n${documents(9, (n) => `a${n + 1}: &a${n + 1} [${list(9, () => `*a${n}`)}]\n`)}`,
    /error: the aliases stand for more than 100000 values/,
  ],
  [
    '100 000 broken policies',
    () => documents(100_000, (n) => policyText(`p${n}`, 'ingress: 5')),
    /: 99500 more errors, not shown/,
  ],
  [
    'one YAML of 50 MB',
    () => huge(`{ports: [${list(4_600_000, () => '{port: 1}')}]}`),
    /error: the file has more than 4194304 lines, fields and items/,
  ],
  [
    '1 200 pods',
    () => documents(1200, (n) => withAddress(podText(`p${n}`), `10.77.${n >> 8}.${n & 255}`)),
    /there would be 1203 pods, and a sandbox has 1000 at most/,
  ],
  [
    'a pod at a loopback address',
    () => withAddress(podText('odd'), '127.0.0.9'),
    /pod shop\/odd can't have the address 127\.0\.0\.9/,
  ],
];

/** Valid, so they are taken, as far as their namespace's share of a node goes; the agents say where it ends. */
const TAKEN: readonly Case[] = [
  [
    'ports 1 to 65535 in single steps',
    () => huge(`{ports: [${list(65_535, (index) => `{port: ${index + 1}}`)}]}`),
    /^$/,
  ],
  ['100 000 blocks in a rule', () => huge(`{from: [${list(100_000, block)}]}`), /^$/],
  [
    '4 000 selectors that hold of every pod',
    () =>
      huge(
        list(
          4000,
          (n) => `{from: [{podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [x${n}]}]}}]}`,
        ),
      ),
    /^moat: node \w+: NetworkPolicy shop\/huge: .* values of selectors/,
  ],
  [
    'every other port beside 4 998 blocks',
    () =>
      huge(
        `{from: [{ipBlock: {cidr: 0.0.0.0/0}}], ports: [${ODD_PORTS}]}, ${list(4998, (n) => `{from: [${block(n)}], ports: [{port: ${2 * n + 2}}]}`)}`,
      ),
    /^moat: node \w+: NetworkPolicy shop\/huge: .* entries of port tables/,
  ],
];

describe('moat sandbox apply, with what is written to hurt (root)', needsRoot, () => {
  const name = instanceName();
  const folder = mkdtempSync(join(tmpdir(), 'moat-hostile-apply-'));
  let client: SandboxClient;
  let agents: readonly (number | undefined)[] = [];

  before(async () => {
    const pods = ['web', 'db', 'target'].map((pod, index) => podText(pod, { node: index === 1 ? 'two' : 'one' }));
    const web = 'podSelector: {matchLabels: {app: db}}\ningress: [{from: [{podSelector: {}}], ports: [{port: 80}]}]';
    writeFileSync(join(folder, 'ground.yaml'), pods.join('') + policyText('web', web));
    client = await startDetached({ name, paths: [folder] });
    agents = (await client.status()).nodes.map(({ agent }) => agent?.pid);
    await holds('at first');
  });

  after(async () => {
    client.close();
    await downSandbox(name);
    rmSync(folder, { recursive: true, force: true });
  });

  /** Agents are those of the start, and packets are judged as at the start. */
  async function holds(when: string): Promise<void> {
    const { nodes, pid } = await client.status();
    assert.deepEqual(
      nodes.map(({ agent }) => agent?.pid),
      agents,
      when,
    );
    for (const agent of agents) assert.ok(peakOf(agent ?? 0) < LIMIT_MB.agent, `an agent has ${peakOf(agent ?? 0)} MB`);
    assert.ok(peakOf(pid) < LIMIT_MB.sandbox, `the sandbox has ${peakOf(pid)} MB`);
    const ports = [80, 81].map((port) => ({ protocol: TCP, port }));
    const found = await client.probe({ ports });
    assert.equal(rowOf(found, 'shop/web', 'shop/db', 80).verdict, 'allow', when);
    assert.equal(rowOf(found, 'shop/web', 'shop/db', 81).verdict, 'deny', when);
  }

  async function apply(
    text: string,
  ): Promise<{ readonly code: number | null; readonly said: string; readonly note: string }> {
    const file = join(folder, 'hostile.txt');
    writeFileSync(file, text);
    const started = performance.now();
    const child = spawn('./moat', ['sandbox', 'apply', '-f', file, '--name', name], {
      cwd: ROOT,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let said = '';
    let peak = 0;
    child.stderr.setEncoding('utf8').on('data', (part: string) => {
      said += part;
    });
    const ended = once(child, 'close');
    while (child.exitCode === null && child.signalCode === null) {
      peak = Math.max(peak, peakOf(child.pid ?? 0));
      await pause(10);
    }
    await ended;
    const took = performance.now() - started;
    const note = `${(took / 1000).toFixed(1)} s, the command ${peak} MB`;
    assert.ok(took < LIMIT_MS && peak < LIMIT_MB.command, note);
    return { code: child.exitCode, said, note };
  }

  for (const [what, text, says] of REFUSED) {
    it(`refuses ${what}, and nothing changes`, async (t) => {
      const { revision } = await client.status();
      const { code, said, note } = await apply(text());
      t.diagnostic(note);
      assert.equal(code, 2, said.slice(0, 1000));
      assert.match(said, says);
      assert.doesNotMatch(said, /bug in moat| {4}at /);
      assert.ok(said.length < 200_000, `${said.length} characters`);
      assert.equal((await client.status()).revision, revision);
      await holds(what);
    });
  }

  for (const [what, text, says] of TAKEN) {
    it(`takes ${what}, and says what of it is too much`, async (t) => {
      const { code, said, note } = await apply(text());
      t.diagnostic(note);
      assert.equal(code, 0, said.slice(0, 1000));
      assert.match(said, says);
      await holds(what);
      assert.equal((await apply(CALM)).said, '');
    });
  }
});

/** The most memory that a process ever had; 0 once it is gone. */
function peakOf(pid: number): number {
  try {
    const found = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
    return Math.round(Number(found?.[1] ?? 0) / 1024);
  } catch {
    return 0;
  }
}

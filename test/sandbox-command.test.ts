// `moat sandbox`: up in a process of its own, used from others, and gone without a trace.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { needsRoot } from './support/needs.ts';

const ROOT = join(import.meta.dirname, '..');
const NAME = `sc${process.pid}`;

type Run = { readonly code: number | null; readonly stdout: string; readonly stderr: string };

function sandbox(...args: readonly string[]): Run {
  const run = spawnSync('./moat', ['sandbox', ...args, '--name', NAME], { cwd: ROOT, encoding: 'utf8' });
  return { code: run.status, stdout: run.stdout, stderr: run.stderr };
}

function json<T>(run: Run): T {
  assert.equal(run.code, 0, run.stderr);
  return JSON.parse(run.stdout) as T;
}

const DENY = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server-from-client, namespace: default, annotations: {moat.network/mode: audit}}
spec: {podSelector: {}, policyTypes: [Ingress]}
`;

test(
  'needs root: a sandbox comes up detached, is probed, changed and asked from other processes, and goes',
  needsRoot,
  (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'moat-sandbox-command-'));
    t.after(() => {
      sandbox('down');
      rmSync(folder, { recursive: true });
    });
    const status = json<{ nodes: unknown[]; pods: unknown[] }>(
      sandbox('up', '-f', 'examples/first', '--datapath', 'ebpf', '--detach', '-o', 'json'),
    );
    assert.equal(status.nodes.length, 2);
    assert.equal(status.pods.length, 2);

    const held = sandbox('up', '-f', 'examples/first', '--detach');
    assert.equal(held.code, 2, 'the name is taken');

    const before = json<{ verdict: string }[]>(sandbox('probe', '-o', 'json'));
    assert.deepEqual(
      before.map(({ verdict }) => verdict),
      ['allow', 'allow'],
    );

    const file = join(folder, 'deny.yaml');
    writeFileSync(file, DENY);
    const applied = sandbox('apply', '-f', file, '-o', 'json');
    assert.equal(json<{ changes: string[] }>(applied).changes.length, 1);
    const said = JSON.parse(applied.stderr) as { diagnostics: { code: string }[] };
    assert.deepEqual(
      said.diagnostics.map(({ code }) => code),
      ['annotation-unheard'],
      'said once',
    );
    const after = json<{ verdict: string }[]>(sandbox('probe', '-o', 'json'));
    assert.deepEqual(
      after.map(({ verdict }) => verdict),
      ['deny', 'deny'],
    );

    writeFileSync(file, DENY.replace('policyTypes', 'policyType'));
    const refused = sandbox('apply', '-f', file);
    assert.equal(refused.code, 2);
    assert.match(refused.stderr, /deny\.yaml:4: error: NetworkPolicy default\/server-from-client: spec\.policyType/);

    assert.deepEqual(json(sandbox('down', '-o', 'json')), { name: NAME, kind: 'down' });
    assert.deepEqual(json(sandbox('down', '-o', 'json')), { name: NAME, kind: 'absent' });
    assert.equal(sandbox('status').code, 2);
    assert.ok(!execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' }).includes(NAME));
  },
);

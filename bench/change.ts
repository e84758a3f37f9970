// How long a changed policy takes to reach packets, from handing over the object to the first packet judged by it: part of
// `make bench`. Needs root. One JSON line a figure on standard output.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { UDP } from '#net/protocol.ts';
import type { SourceObject } from '#policy/object.ts';
import { type Sandbox, startSandbox } from '#sandbox/sandbox.ts';
import { Figures } from './figure.ts';
import { quantile } from './slots.ts';

/** Milliseconds of each change; a packet goes out every millisecond, so each figure has that much too much at most. */
type ChangeTimes = { readonly cut: readonly number[]; readonly opened: readonly number[] };

const LIMIT_MS = 3000;
const CHANGES = 50;
const POLICIES = [2, 1000] as const;
const PODS = ['client', 'near'] as const;

/**
 * Takes the one rule away that lets the client speak to the near server, and gives it back, `times` times. Throws where
 * a change does not show within three seconds.
 */
async function measureChanges(sandbox: Sandbox, times: number): Promise<ChangeTimes> {
  const own = sandbox.objects.find((object) => object.kind === 'NetworkPolicy' && object.name === 'own');
  if (own === undefined) throw new Error('the bench world has no policy named own');
  const port = { protocol: UDP, port: 5000 };
  const stream = await sandbox.openStream({ from: 'bench/client', to: 'bench/near', port });
  const cut: number[] = [];
  const opened: number[] = [];
  const change = async (object: SourceObject, next: 'firstSilent' | 'firstAnswered'): Promise<number> => {
    const startMs = performance.now();
    const applied = sandbox.applyObjects([object]);
    const seenMs = await stream[next](startMs, LIMIT_MS);
    await applied;
    if (seenMs === null) throw new Error(`the changed policy did not meet a packet within ${LIMIT_MS} ms`);
    return seenMs - startMs;
  };
  try {
    for (let turn = 0; turn < times; turn++) {
      cut.push(await change(closed(own), 'firstSilent'));
      opened.push(await change(own, 'firstAnswered'));
    }
  } finally {
    await stream.close();
  }
  return { cut, opened };
}

function closed(policy: SourceObject): SourceObject {
  const spec = { podSelector: {}, policyTypes: ['Ingress', 'Egress'] };
  const content = policy.content as Record<string, unknown>;
  return { ...policy, content: { ...content, spec } };
}

/** A sandbox where `policies` NetworkPolicies select the measured pods, the one that allows them the last by name. */
async function startPolicyWorld(policies: number): Promise<Sandbox> {
  const folder = mkdtempSync(join(tmpdir(), 'moat-bench-'));
  try {
    writeFileSync(join(folder, 'bench.json'), JSON.stringify(manifests(policies)));
    return await startSandbox({ name: `b${policies}x${process.pid}`, paths: [folder], nodes: 1, watch: false });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

type Manifest = Record<string, unknown>;

function manifests(policies: number): Manifest {
  const pods = PODS.map((name) => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'bench', labels: { app: name, group: 'bench' } },
    spec: { containers: [{ name: 'main' }] },
  }));
  const others = Array.from({ length: Math.max(0, policies - 2) }, (_, i) => decoy(i));
  return {
    apiVersion: 'v1',
    kind: 'List',
    items: [...pods, ...others, ...own()],
  };
}

/** A policy of the measured pods that never matches their traffic. */
function decoy(index: number): Manifest {
  const block = `10.${200 + Math.floor(index / 65536)}.${Math.floor(index / 256) % 256}.${index % 256}/32`;
  const peers = [{ ipBlock: { cidr: block } }, { podSelector: { matchLabels: { app: `decoy-${index}` } } }];
  const ports = [{ port: 1000 + (index % 100) }, { port: 20_000, endPort: 20_100, protocol: 'UDP' }];
  return policy(`decoy-${String(index).padStart(6, '0')}`, [{ from: peers, ports }], [{ to: peers, ports }]);
}

function own(): readonly Manifest[] {
  const peers = [{ podSelector: { matchLabels: { group: 'bench' } } }];
  const ports = [
    { port: 1024, endPort: 65_535 },
    { port: 1024, endPort: 65_535, protocol: 'UDP' },
  ];
  return [policy('deny-all', [], []), policy('own', [{ from: peers, ports }], [{ to: peers, ports }])];
}

function policy(name: string, ingress: readonly unknown[], egress: readonly unknown[]): Manifest {
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name, namespace: 'bench' },
    spec: { podSelector: {}, policyTypes: ['Ingress', 'Egress'], ingress, egress },
  };
}

const figures = new Figures();
for (const policies of POLICIES) {
  process.stderr.write(`bench: a changed policy among ${policies}\n`);
  const sandbox = await startPolicyWorld(policies);
  try {
    for (const [kind, values] of Object.entries(await measureChanges(sandbox, CHANGES))) {
      for (const share of [0.5, 0.99]) {
        const name = `policy change to first packet ${kind}, ${policies} policies, p${share * 100}`;
        const value = Number(quantile(values, share).toFixed(2));
        figures.print({ name, value, unit: 'ms', baseline: null, ratio: null });
      }
    }
  } finally {
    await sandbox.down();
  }
}

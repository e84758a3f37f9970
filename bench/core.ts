// The policy core at scale: 100 000 pods in 500 namespaces, 10 000 NetworkPolicies, 110 local pods. Prints JSON lines.
// Run with --max-semi-space-size=2, as an agent is, for the memory figures. `--unique`: a label of its own per pod.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Compiler } from '#compile/compiler.ts';
import type { Address } from '#net/address.ts';
import { axisRange } from '#net/axis.ts';
import { parseCidr } from '#net/cidr.ts';
import { TCP } from '#net/protocol.ts';
import { DEFAULT_TIER, type Peer, type Policy, policyKey, type Rule, type RuleId, type Source } from '#policy/model.ts';
import type { LabelSelector } from '#policy/selector.ts';
import { impliedNamespace, type Namespace, type Pod, podKey, type WorldEvent } from '#policy/world.ts';
import { Figures } from './figure.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

const PODS = 100_000;
const NAMESPACES = 500;
const POLICIES = 10_000;
const LOCAL = 110;
const APPS = 10;
const PAGE = 500;
const UNIQUE = process.argv.includes('--unique');

/** A small generator with a fixed seed: each run measures the same cluster. */
let state = 12345;
function random(below: number): number {
  state = (Math.imul(state, 1103515245) + 12345) >>> 0;
  return (state >>> 8) % below;
}

const figures = new Figures();

function print(name: string, value: number, unit: string): void {
  figures.print({ name, value: Math.round(value * 1000) / 1000, unit, baseline: null, ratio: null });
}

const namespaceName = (index: number): string => `namespace-${index}`;

function namespace(index: number, team = index % 20): Namespace {
  const name = namespaceName(index);
  return { name, labels: { ...impliedNamespace(name).labels, team: `team-${team}`, stage: `stage-${index % 3}` } };
}

function address(index: number): Address {
  return { family: 4, words: [0x0a000000 + index + 1] };
}

function pod(index: number, version = random(10)): Pod {
  const space = namespaceName(index % NAMESPACES);
  const name = `pod-${index}`;
  const labels: Record<string, string> = {
    app: `app-${Math.floor(index / NAMESPACES) % APPS}`,
    version: `v${version}`,
  };
  labels.tier = `tier-${index % 5}`;
  labels.release = `r${index % 50}`;
  if (UNIQUE) labels.instance = `pod-${index}`;
  const step = Math.floor(PODS / LOCAL);
  return {
    key: podKey(space, name),
    namespace: space,
    name,
    labels,
    node: index % step === 0 ? 'node-0' : `node-${1 + (index % 900)}`,
    addresses: [address(index)],
    ports: [{ name: 'http', protocol: TCP, port: 8080 }],
    hostNetwork: false,
    finished: false,
    workload: { kind: 'Deployment', namespace: space, name: `app-${index % APPS}` },
  };
}

function inLabel(key: string, value: string): LabelSelector {
  return { requirements: [{ op: 'In', key, values: [value] }] };
}

function peer(space: string): Peer {
  const named = { kind: 'named', name: space } as const;
  const kind = random(10);
  if (kind < 6) return { kind: 'pods', namespaces: named, pods: inLabel('app', `app-${random(APPS)}`) };
  if (kind < 9) {
    const selector = inLabel('team', `team-${random(20)}`);
    return { kind: 'pods', namespaces: { kind: 'labelled', selector }, pods: inLabel('app', `app-${random(APPS)}`) };
  }
  const cidr = parseCidr(`172.${random(200)}.${random(200)}.0/24`)?.cidr;
  return cidr === undefined ? peer(space) : { kind: 'cidr', cidr, except: [] };
}

function policy(index: number): Policy {
  const space = namespaceName(index % NAMESPACES);
  const name = `policy-${index}`;
  const file = null;
  const source: Source = {
    dialect: 'kubernetes',
    kind: 'NetworkPolicy',
    namespace: space,
    name,
    path: 'spec',
    file,
    line: null,
  };
  const rule = (direction: string, at: number): Rule => {
    const range = axisRange(TCP, 8000 + random(5), 8080 + random(5));
    return {
      id: `networkpolicy/${space}/${name}/${direction}/${at}` as RuleId,
      action: 'allow',
      peers: { kind: 'these', peers: [peer(space), peer(space)] },
      ports: {
        kind: 'these',
        ports: [{ kind: 'range', protocol: TCP, first: range.first & 0xffff, last: range.last & 0xffff }],
      },
      source: { ...source, path: `spec.${direction}[${at}]` },
    };
  };
  return {
    key: policyKey('networkpolicy', space, name),
    tier: DEFAULT_TIER,
    order: `${space}/${name}`,
    subject: { namespaces: { kind: 'named', name: space }, pods: inLabel('app', `app-${random(APPS)}`) },
    isolates: { egress: random(2) === 0, ingress: true },
    egress: random(2) === 0 ? [rule('egress', 0)] : [],
    ingress: [rule('ingress', 0), rule('ingress', 1)],
    source,
  };
}

const compiler = new Compiler({ semantics: { ipBlockPods: true }, isLocal: (one) => one.node === 'node-0' });

/** CPU time of the main thread, in ticks of a few ms: what other processes do at the same time does not count. */
function cpuMs(run: () => void): number {
  const start = process.threadCpuUsage();
  run();
  const { user, system } = process.threadCpuUsage(start);
  return (user + system) / 1000;
}

function wallMs(run: () => void): number {
  const start = performance.now();
  run();
  return performance.now() - start;
}

function applyMs(events: readonly WorldEvent[]): number {
  return cpuMs(() => compiler.apply(events));
}

function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.floor(sorted.length * share)] ?? 0;
}

const podEvent = (value: Pod): WorldEvent => ({ kind: 'pod', key: value.key, value });
const policyEvent = (value: Policy): WorldEvent => ({ kind: 'policy', key: value.key, value });

/** Applies many batches, one by one: CPU time on average, and percentiles by the clock on the wall. */
function repeat(name: string, times: number, events: (index: number) => readonly WorldEvent[]): void {
  const batches = Array.from({ length: times }, (_, index) => events(index));
  const measured: number[] = [];
  const cpu = cpuMs(() => {
    for (const batch of batches) measured.push(wallMs(() => compiler.apply(batch)));
  });
  measured.sort((a, b) => a - b);
  print(`${name}: CPU`, cpu / times, 'ms');
  print(`${name}: p50`, percentile(measured, 0.5), 'ms');
  print(`${name}: p99`, percentile(measured, 0.99), 'ms');
}

function build(): void {
  let podsMs = 0;
  const spaces = Array.from({ length: NAMESPACES }, (_, index): WorldEvent => {
    const value = namespace(index);
    return { kind: 'namespace', name: value.name, value };
  });
  podsMs += applyMs(spaces);
  const block = parseCidr('10.0.0.0/8')?.cidr;
  if (block === undefined) throw new Error('block');
  podsMs += applyMs([
    { kind: 'node', name: 'node-0', value: { name: 'node-0', labels: {}, addresses: [], podCidrs: [block] } },
  ]);
  for (let first = 0; first < PODS; first += PAGE) {
    const page = Array.from({ length: PAGE }, (_, index) => podEvent(pod(first + index)));
    podsMs += applyMs(page);
  }
  print('build: pods', podsMs, 'ms');
  const policies = Array.from({ length: POLICIES }, (_, index) => policyEvent(policy(index)));
  const policiesMs = applyMs(policies);
  print('build: policies', policiesMs, 'ms');
  print('build', podsMs + policiesMs, 'ms');
}

function sizes(): void {
  const { plan } = compiler;
  let entries = 0;
  for (const layer of plan.layers.values()) entries += layer.classes.size;
  print('identities', plan.identities.size, 'count');
  print('endpoints', plan.endpoints.size, 'count');
  print('sets', plan.sets.size, 'count');
  print('layers', plan.layers.size, 'count');
  print('tables', plan.tables.size, 'count');
  print('class entries', entries, 'count');
}

function memory(name: string): void {
  collectGarbage();
  const { rss, heapUsed, arrayBuffers } = process.memoryUsage();
  print(`${name}: resident`, rss / 1e6, 'MB');
  print(`${name}: heap`, heapUsed / 1e6, 'MB');
  print(`${name}: columns`, arrayBuffers / 1e6, 'MB');
}

const isLocalIndex = (index: number): boolean => index % Math.floor(PODS / LOCAL) === 0;
const remote = (): number => {
  const index = random(PODS);
  return isLocalIndex(index) ? index + 1 : index;
};

build();
sizes();
memory('after build');
repeat('policy changed', 4000, () => [policyEvent(policy(random(POLICIES)))]);
const localSpaces = Array.from({ length: LOCAL }, (_, index) => (index * Math.floor(PODS / LOCAL)) % NAMESPACES);
repeat('policy changed beside a local pod', 2000, () => {
  return [policyEvent(policy((localSpaces[random(LOCAL)] ?? 0) + NAMESPACES * random(POLICIES / NAMESPACES)))];
});
repeat('remote pod relabelled', 4000, () => [podEvent(pod(remote()))]);
repeat('remote pod removed and added', 2000, () => {
  const value = pod(remote());
  return [{ kind: 'pod', key: value.key, value: null }, podEvent(value)];
});
repeat('local pod relabelled', 1000, () => [podEvent(pod(random(LOCAL) * Math.floor(PODS / LOCAL)))]);
repeat('local pod removed and added', 1000, (index) => {
  const value = pod(random(LOCAL) * Math.floor(PODS / LOCAL));
  return [index % 2 === 0 ? { kind: 'pod', key: value.key, value: null } : podEvent(value)];
});
repeat('namespace relabelled', 500, () => {
  const value = namespace(random(NAMESPACES), random(20));
  return [{ kind: 'namespace', name: value.name, value }];
});
/** One of 20 policies of the admin tier, over all pods. */
function adminPolicy(index: number): Policy {
  const base = policy(index);
  const labelled = { kind: 'labelled', selector: inLabel('stage', `stage-${random(3)}`) } as const;
  const rules = [...base.ingress, ...base.ingress].map((rule, at): Rule => {
    const peers = {
      kind: 'these',
      peers: [{ kind: 'pods', namespaces: labelled, pods: { requirements: [] } }],
    } as const;
    return { ...rule, id: `admin/${index}/${at}` as RuleId, action: at % 2 === 0 ? 'pass' : 'deny', peers };
  });
  return {
    ...base,
    key: policyKey('clusternetworkpolicy', '', `admin-${index}`),
    tier: { name: 'admin', position: 1000, end: 'none' },
    subject: { namespaces: { kind: 'labelled', selector: { requirements: [] } }, pods: { requirements: [] } },
    isolates: { egress: false, ingress: false },
    egress: [],
    ingress: rules,
  };
}

print(
  '20 admin policies added',
  applyMs(Array.from({ length: 20 }, (_, index) => policyEvent(adminPolicy(index)))),
  'ms',
);
repeat('admin policy changed', 200, () => [policyEvent(adminPolicy(random(20)))]);
const everything: Policy = {
  ...policy(0),
  key: policyKey('networkpolicy', 'namespace-0', 'unique'),
  subject: { namespaces: { kind: 'named', name: 'namespace-0' }, pods: { requirements: [] } },
};
for (const [name, requirement] of Object.entries({
  value: { op: 'In', key: 'instance', values: ['pod-77'] } as const,
  Exists: { op: 'Exists', key: 'instance' } as const,
  NotIn: { op: 'NotIn', key: 'instance', values: ['pod-77'] } as const,
})) {
  const labelled = { kind: 'labelled', selector: { requirements: [] } } as const;
  const pods = { requirements: [requirement] };
  const [first] = everything.ingress;
  if (first === undefined) break;
  const ingress = [
    { ...first, peers: { kind: 'these', peers: [{ kind: 'pods', namespaces: labelled, pods }] } as const },
  ];
  repeat(`a selector first names a pod's own label (${name})`, 20, (index) => [
    index % 2 === 0 ? policyEvent({ ...everything, ingress }) : { kind: 'policy', key: everything.key, value: null },
  ]);
}
print(
  'merge',
  wallMs(() => compiler.merge()),
  'ms',
);
sizes();
memory('after churn');

/** 1 000 policies that select the same three local pods, each with two peers and two ports in each direction. */
function sharedPods(): void {
  const one = new Compiler({ semantics: { ipBlockPods: true }, isLocal: (each) => each.node === 'node-0' });
  const subject = { namespaces: { kind: 'named', name: 'shared' }, pods: { requirements: [] } } as const;
  const rule = (id: string, app: number): Rule => {
    const peers = [app, app + 1].map((number): Peer => {
      const namespaces = { kind: 'named', name: 'peers' } as const;
      return { kind: 'pods', namespaces, pods: inLabel('app', `app-${number % 2000}`) };
    });
    const ports = [80, 8000 + (app % 5)].map(
      (port) => ({ kind: 'range', protocol: TCP, first: port, last: port }) as const,
    );
    const { source } = policy(0);
    return {
      id: id as RuleId,
      action: 'allow',
      peers: { kind: 'these', peers },
      ports: { kind: 'these', ports },
      source,
    };
  };
  const shared = (index: number, app: number): Policy => {
    const key = policyKey('networkpolicy', 'shared', `policy-${index}`);
    const isolates = { egress: true, ingress: true };
    const rules = { egress: [rule(`${key}/egress/0`, app)], ingress: [rule(`${key}/ingress/0`, app)] };
    return { ...policy(0), key, order: `shared/policy-${index}`, subject, isolates, ...rules };
  };
  const peerPod = (index: number): Pod => {
    const [space, node] = index < 3 ? ['shared', 'node-0'] : ['peers', 'node-1'];
    const name = `pod-${index}`;
    return {
      ...pod(index),
      key: podKey(space, name),
      namespace: space,
      name,
      node,
      labels: { app: `app-${index - 3}` },
    };
  };
  for (const name of ['shared', 'peers']) {
    one.apply([{ kind: 'namespace', name, value: { ...impliedNamespace(name), name } }]);
  }
  one.apply(Array.from({ length: 2003 }, (_, index) => podEvent(peerPod(index))));
  one.apply(Array.from({ length: 1000 }, (_, index) => policyEvent(shared(index, 2 * index))));
  const kinds = {
    changed: (index: number) => policyEvent(shared(index, random(2000))),
    removed: (index: number): WorldEvent => ({ kind: 'policy', key: shared(index, 0).key, value: null }),
    added: (index: number) => policyEvent(shared(index, random(2000))),
  };
  const measured = { changed: [] as number[], removed: [] as number[], added: [] as number[] };
  const steps = { changed: [] as number[], removed: [] as number[], added: [] as number[] };
  for (let round = 0; round < 200; round++) {
    const index = random(1000);
    for (const kind of ['changed', 'removed', 'added'] as const) {
      const event = kinds[kind](index);
      measured[kind].push(wallMs(() => steps[kind].push(one.apply([event]).length)));
    }
  }
  for (const kind of ['changed', 'removed', 'added'] as const) {
    const name = `one of 1 000 policies on the same pods ${kind}`;
    for (const list of [measured[kind], steps[kind]]) list.sort((a, b) => a - b);
    for (const [label, share] of [
      ['p50', 0.5],
      ['p99', 0.99],
    ] as const) {
      print(`${name}: ${label}`, percentile(measured[kind], share), 'ms');
      print(`${name}: steps ${label}`, percentile(steps[kind], share), 'count');
    }
  }
}

sharedPods();

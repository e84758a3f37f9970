// Who changes things again and again while others wait does not keep them waiting.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { judge } from '#datapath/reference/verdict.ts';
import { type Address, parseAddress } from '#net/address.ts';
import { TCP } from '#net/protocol.ts';
import { DEFAULT_TIER, type Policy, type PolicyKey, policyKey, type RuleId } from '#policy/model.ts';
import { EVERYTHING, type LabelSelector } from '#policy/selector.ts';
import { type Pod, podKey, type WorldEvent } from '#policy/world.ts';
import { held } from '#test/support/held.ts';
import { Compiler } from './compiler.ts';
import { GradualCompiler } from './gradual.ts';
import { Shares } from './shares.ts';

const PODS = 40;
/** Turns after which a policy must be in force: it waits for some dozens of addresses. */
const SOON = 2 * PODS;

type Where = { readonly namespace: string; readonly number: number; readonly node: string };

function addressOf(namespace: string, number: number): Address {
  const address = parseAddress(`10.${namespace === 'a' ? 1 : 2}.${number >> 8}.${number & 255}`);
  assert.ok(address);
  return address;
}

/** A pod that is labelled with its number. */
function pod({ namespace, number, node }: Where): WorldEvent {
  const address = addressOf(namespace, number);
  const name = `pod-${number}`;
  const fixed = { namespace, ports: [], hostNetwork: false, finished: false, node };
  const workload = { kind: 'Pod', namespace, name };
  const labels = { number: String(number) };
  const value: Pod = { ...fixed, workload, key: podKey(namespace, name), name, addresses: [address], labels };
  return { kind: 'pod', key: value.key, value };
}

function numbered(numbers: readonly number[]): LabelSelector {
  return { requirements: [{ op: 'In', key: 'number', values: numbers.map(String) }] };
}

function keyOf(namespace: string, name: string): PolicyKey {
  return policyKey('networkpolicy', namespace, name);
}

type Said = {
  readonly namespace: string;
  readonly name: string;
  readonly subject?: LabelSelector;
  readonly from: number;
};

/** The numbers of some pods. */
function peersOf(from: number): readonly number[] {
  return Array.from({ length: PODS }, (_, number) => number).filter((number) => (number * (from + 3)) % 7 < 3);
}

/** Isolates pods of a namespace, by default all, but from some that depend on `from`. */
function policy({ namespace, name, subject = EVERYTHING, from }: Said): WorldEvent {
  const source = { dialect: 'k', kind: 'NetworkPolicy', namespace, name, path: '', file: null, line: null };
  const own = { kind: 'named', name: namespace } as const;
  const pods = numbered(peersOf(from));
  const peers = { kind: 'these', peers: [{ kind: 'pods', namespaces: own, pods }] } as const;
  const value: Policy = {
    ...{ key: keyOf(namespace, name), tier: DEFAULT_TIER, order: name, source, egress: [] },
    isolates: { egress: false, ingress: true },
    subject: { namespaces: own, pods: subject },
    ingress: [{ id: `${namespace}/${name}` as RuleId, action: 'allow', peers, ports: { kind: 'any' }, source }],
  };
  return { kind: 'policy', key: value.key, value };
}

type Node = { readonly compiler: GradualCompiler; apply(events: readonly WorldEvent[]): void };

/** A node that knows pods of two namespaces, of which the first ones are its own. */
function node(): Node {
  const inner = new Compiler({ semantics: { ipBlockPods: true }, isLocal: (one) => one.node === 'here' });
  const compiler = new GradualCompiler(inner, 0);
  let revision = 0;
  const apply = (events: readonly WorldEvent[]): void => void compiler.apply(events, ++revision);
  const numbers = Array.from({ length: PODS }, (_, number) => number);
  const place = (number: number): string => (number === 0 ? 'here' : 'there');
  apply(['a', 'b'].flatMap((namespace) => numbers.map((number) => pod({ namespace, number, node: place(number) }))));
  return { compiler, apply };
}

/** After how many turns a policy is in force; each brings an event and works off one slice. */
function turnsUntil(key: PolicyKey, { compiler, apply }: Node, event: (turn: number) => WorldEvent): number {
  const waits = (): boolean => compiler.held.flat().some((one) => one.kind === 'policy' && one.key === key);
  assert.ok(waits(), 'it waits at first, or nothing is shown');
  for (let turn = 0; turn < 50 * PODS; turn++) {
    if (!waits()) return turn;
    apply([event(turn)]);
    compiler.advance(1);
  }
  return Infinity;
}

test('a policy does not wait for another one that is changed again and again', () => {
  const here = node();
  here.apply([policy({ namespace: 'a', name: 'restless', from: 0 })]);
  here.apply([policy({ namespace: 'b', name: 'quiet', from: 1 })]);
  const turns = turnsUntil(keyOf('b', 'quiet'), here, (turn) =>
    policy({ namespace: 'a', name: 'restless', from: turn + 2 }),
  );
  assert.ok(turns <= SOON, `${turns} turns`);
});

test('nor for pods that go on starting', () => {
  const here = node();
  // Each of them is about a pod that is not here yet, and has peers of its own.
  const numbers = Array.from({ length: 5 * PODS }, (_, turn) => PODS + turn);
  here.apply(
    numbers.map((number) =>
      policy({ namespace: 'a', name: `of-${number}`, subject: numbered([number]), from: number }),
    ),
  );
  while (here.compiler.isBusy) here.compiler.advance(1000);
  here.apply([policy({ namespace: 'a', name: 'all', from: 1 })]);
  const turns = turnsUntil(keyOf('a', 'all'), here, (turn) => {
    return pod({ namespace: 'a', number: PODS + turn, node: 'here' });
  });
  assert.ok(turns <= SOON, `${turns} turns`);
});

/** A policy of two forms whose selectors are known: what changes with it is classes. */
function restless(turn: number): WorldEvent {
  return policy({ namespace: 'a', name: 'restless', from: 1 + (turn % 2) });
}

/** A node where each change of that policy leaves classes behind. */
function nodeBehind(): Node {
  const here = node();
  const known = [1, 2].map((from) => policy({ namespace: 'a', name: `known-${from}`, from }));
  here.apply([...known, restless(1)]);
  while (here.compiler.isBusy) here.compiler.advance(1000);
  here.apply([restless(0)]);
  assert.ok(here.compiler.behind.length > 0, 'classes are behind, or nothing is shown');
  return here;
}

test('nor for all that another namespace has waiting', () => {
  const turns = [1, 20].map((many) => {
    const here = node();
    for (let from = 0; from < many; from++) here.apply([policy({ namespace: 'a', name: `of-${from}`, from })]);
    here.apply([policy({ namespace: 'b', name: 'own', from: 1 })]);
    here.apply([policy({ namespace: 'a', name: 'later', from: 2 })]);
    const { compiler } = here;
    for (let turn = 0; compiler.isBusy; turn++) {
      if (!compiler.held.flat().some((one) => one.kind === 'policy' && one.key === keyOf('b', 'own'))) return turn;
      compiler.advance(1);
    }
    return Infinity;
  });
  const [behindOne = 0, behindMany = Infinity] = turns;
  assert.ok(behindOne > 0 && behindMany <= behindOne + 2, turns.join());
});

test('nor for classes of one that is changed again and again', () => {
  const here = nodeBehind();
  here.apply([policy({ namespace: 'b', name: 'quiet', from: 1 })]);
  const turns = turnsUntil(keyOf('b', 'quiet'), here, (turn) => restless(turn + 1));
  assert.ok(turns <= SOON, `${turns} turns`);
});

test('nor does a revision', () => {
  const here = nodeBehind();
  const before = here.compiler.revision;
  for (let turn = 0; turn < SOON; turn++) {
    here.apply([restless(turn + 1)]);
    here.compiler.advance(1);
  }
  assert.ok(here.compiler.revision > before + SOON / 2, `${here.compiler.revision} after ${before}`);
});

test('a tenant whose namespaces come and go leaves nothing behind', () => {
  const sizes: number[] = [];
  const { of } = Shares.prototype;
  const seen = new Set<Shares>();
  Shares.prototype.of = function (this: Shares, namespace: string) {
    seen.add(this);
    return of.call(this, namespace);
  };
  try {
    const here = node();
    for (let turn = 0; turn < 20; turn++) {
      const namespace = `come-${turn}`;
      const own = pod({ namespace, number: turn, node: 'here' });
      const isolates = policy({ namespace, name: 'own', from: 1 });
      here.apply([own, isolates]);
      while (here.compiler.isBusy) here.compiler.advance(1000);
      here.apply([{ ...own, value: null } as WorldEvent, { ...isolates, value: null } as WorldEvent]);
      while (here.compiler.isBusy) here.compiler.advance(1000);
      sizes.push(...[...seen].map(({ size }) => size));
    }
  } finally {
    Shares.prototype.of = of;
  }
  assert.equal(seen.size, 1);
  assert.ok(sizes.length === 20 && Math.max(...sizes) <= 1, sizes.join());
});

test('policies wait on, though one of them uses what an earlier one does', () => {
  const turns = [false, true].map((twin) => {
    const here = node();
    here.apply([policy({ namespace: 'a', name: 'first', from: 0 })]);
    for (let from = 1; from <= 6; from++) here.apply([policy({ namespace: 'b', name: `other-${from}`, from })]);
    if (twin) here.apply([policy({ namespace: 'a', name: 'twin', from: 0 })]);
    let slices = 0;
    for (; here.compiler.isBusy; slices++) here.compiler.advance(1);
    return slices;
  });
  const [without = 0, withTwin = 0] = turns;
  assert.ok(without > 6 * 10 && withTwin >= without, turns.join());
});

test('a policy that comes to use what another one waits for has all of it in force at once, and one that is new waits', () => {
  const here = node();
  here.apply([policy({ namespace: 'a', name: 'first', from: 0 })]);
  here.apply([policy({ namespace: 'a', name: 'second', from: 1 })]);
  here.apply([policy({ namespace: 'a', name: 'third', from: 1 })]);
  assert.equal(here.compiler.held.length, 3);
  here.apply([policy({ namespace: 'a', name: 'first', from: 1 })]);
  assert.equal(here.compiler.held.length, 2);
  const to = addressOf('a', 0);
  const allowed = Array.from({ length: PODS }, (_, number) => {
    const flow = { from: addressOf('a', number), to, protocol: TCP, port: 80 };
    return judge(here.compiler.plan, flow).ingress.verdict === 'allow';
  });
  const said = allowed.map((_, number) => number === 0 || peersOf(1).includes(number));
  assert.deepEqual(allowed, said);
});

/** A node with many pods of other nodes, each with a label of its own, and policies that wait for all of them. */
function crowd(policies: number): Node {
  const here = node();
  const numbers = Array.from({ length: CROWD - PODS }, (_, index) => PODS + index);
  here.apply(numbers.map((number) => pod({ namespace: 'b', number, node: 'there' })));
  for (let number = 0; number < policies; number++) here.apply([allBut(`all-but-${number}`, [number])]);
  assert.equal(here.compiler.held.length, policies, 'all of them wait, or nothing is shown');
  return here;
}

const CROWD = 20_000;

/** Allows pods of the namespace with many: for each number, all but the pod with it. */
function allBut(name: string, numbers: readonly number[]): WorldEvent {
  const event = policy({ namespace: 'a', name, from: 0 });
  assert.ok(event.kind === 'policy' && event.value !== null);
  const namespaces = { kind: 'labelled', selector: EVERYTHING } as const;
  const pods = (number: number): LabelSelector => ({
    requirements: [{ op: 'NotIn', key: 'number', values: [String(number)] }],
  });
  const peers = { kind: 'these', peers: numbers.map((number) => ({ kind: 'pods', namespaces, pods: pods(number) })) };
  const ingress = event.value.ingress.map((rule) => ({ ...rule, peers }) as typeof rule);
  return { ...event, value: { ...event.value, ingress } };
}

/** Processor time: several times what it takes here, and a fraction of what it takes where one selector follows the other. */
const CROWD_MS = 1200;

test('a policy that comes to use what hundreds wait for is in force once each address was looked at', () => {
  const here = crowd(300);
  const started = process.cpuUsage();
  here.apply([
    allBut(
      'all-but-0',
      Array.from({ length: 300 }, (_, number) => number),
    ),
  ]);
  const took = process.cpuUsage(started).user / 1000;
  assert.ok(took < CROWD_MS, `${Math.round(took)} ms`);
});

test('of a selector that waits to be looked for, nothing is kept for each pod', () => {
  const [start, few, between, many, end] = [buffers(), crowd(1), buffers(), crowd(201), buffers()];
  assert.ok(few.compiler.isBusy && many.compiler.isBusy);
  const each = (end - between - (between - start)) / 200;
  assert.ok(Math.abs(each) < CROWD / 20, `${Math.round(each)} bytes`);
});

/** Bytes in typed arrays, once garbage is gone: a second collection ends what the first one left to a thread. */
function buffers(): number {
  held();
  held();
  return process.memoryUsage().arrayBuffers;
}

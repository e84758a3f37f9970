// One namespace's share of a node: who needs more is denied, and told; nobody else is.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseManifest } from '#cluster/manifests/parse.ts';
import { buildWorld } from '#cluster/world/build.ts';
import { diffWorlds } from '#cluster/world/diff.ts';
import { type Asked, type AskLimits, NODE_ASKS } from '#compile/allowance.ts';
import { Compiler } from '#compile/compiler.ts';
import type { Taken } from '#compile/shares.ts';
import { shortageText } from '#compile/shortage.ts';
import { judge } from '#datapath/reference/verdict.ts';
import { parseAddress } from '#net/address.ts';
import { TCP } from '#net/protocol.ts';
import { EMPTY_WORLD, STANDARD_SEMANTICS, type World } from '#policy/world.ts';

const PLENTY: Taken = { entries: 1000, ranges: 1000, classes: 1000 };

const pod = (namespace: string, address: string): string =>
  `apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: ${namespace}}\nspec: {containers: []}\nstatus: {podIP: ${address}}\n`;

/** Lets `peers` blocks in, 10.1.INDEX.0/24, each on a port of its own, and everybody on `open`. */
function policy(namespace: string, peers: number, open: readonly number[] = []): string {
  const rules = Array.from({ length: peers }, (_, index) => {
    return `{from: [{ipBlock: {cidr: 10.1.${index}.0/24}}], ports: [{port: ${index + 1}}]}`;
  });
  if (open.length > 0) rules.push(`{ports: [${open.map((port) => `{port: ${port}}`)}]}`);
  const spec = `{podSelector: {}, ingress: [${rules}]}`;
  return `apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: wide, namespace: ${namespace}}\nspec: ${spec}\n`;
}

function worldOf(...documents: readonly string[]): World {
  const { objects, diagnostics } = parseManifest(documents.join('---\n'), 'wide.yaml');
  assert.deepEqual(diagnostics, []);
  return buildWorld(objects).world;
}

class Node {
  readonly #compiler: Compiler;
  #world: World = EMPTY_WORLD;

  constructor(share: Taken, asks: AskLimits = NODE_ASKS) {
    this.#compiler = new Compiler({ semantics: STANDARD_SEMANTICS, isLocal: () => true, share, asks });
  }

  become(...documents: readonly string[]): void {
    const world = worldOf(...documents);
    this.#compiler.apply(diffWorlds(this.#world, world));
    this.#world = world;
  }

  get shortages(): readonly string[] {
    return this.#compiler.shortages.map(shortageText);
  }

  /** Which of so many peers of `policy` get through on their port. */
  allowed(to: string, peers: number): number {
    const all = Array.from({ length: peers }, (_, index) => this.allows(`10.1.${index}.1`, to, index + 1));
    return all.filter((one) => one).length;
  }

  allows(from: string, to: string, port: number): boolean {
    const [source, destination] = [parseAddress(from), parseAddress(to)];
    assert.ok(source && destination);
    return judge(this.#compiler.plan, { from: source, to: destination, protocol: TCP, port }).verdict === 'allow';
  }
}

const SHOP = '10.0.0.1';
const BANK = '10.0.0.2';

for (const [what, share, fits, meaning] of [
  // A head and a start for the base table; a head and two starts for each port.
  ['entries', { ...PLENTY, entries: 47 }, 15, /47 entries of port tables/],
  ['ranges', { ...PLENTY, ranges: 20 }, 20 - 1, /20 port ranges of matching rules/],
  ['classes', { ...PLENTY, classes: 20 }, 20, /20 peers with rules of their own/],
] as const) {
  test(`a namespace that needs more ${what} than its share has some peers denied, and no other namespace any`, () => {
    const node = new Node(share);
    const others = [pod('shop', SHOP), pod('bank', BANK), policy('bank', 10)];
    node.become(...others, policy('shop', 30));
    assert.equal(node.allowed(SHOP, 30), fits);
    assert.equal(node.allowed(BANK, 10), 10);
    assert.equal(node.shortages.length, 1);
    assert.match(node.shortages[0] ?? '', /^NetworkPolicy shop\/wide: spec.ingress\[0\] \(wide.yaml:\d+\): /);
    assert.match(node.shortages[0] ?? '', /namespace shop need more/);
    assert.match(node.shortages[0] ?? '', meaning);
    assert.match(node.shortages[0] ?? '', new RegExp(`${30 - fits} peers are denied`));
    node.become(...others, policy('shop', 10));
    assert.equal(node.allowed(SHOP, 10), 10);
    assert.deepEqual(node.shortages, []);
    node.become(...others, policy('shop', 30));
    assert.equal(node.allowed(SHOP, 30), fits);
    node.become(pod('shop', SHOP), policy('shop', 15));
    assert.equal(node.allowed(SHOP, 15), 15);
  });
}

const MUCH: Asked = { blocks: 1000, labels: 1_000_000 };

for (const [what, asks, limit] of [
  ['a namespace', { namespace: { ...MUCH, blocks: 20 }, node: MUCH }, 20],
  ['the node', { namespace: MUCH, node: { ...MUCH, blocks: 30 } }, 20],
] as const) {
  test(`where ${what} has no room for more address blocks, those that came last match nobody, until there is`, () => {
    const node = new Node(PLENTY, asks);
    const others = [pod('shop', SHOP), pod('bank', BANK), policy('bank', 10)];
    node.become(...others);
    node.become(...others, policy('shop', 30));
    assert.equal(node.allowed(SHOP, 30), limit);
    assert.equal(node.allowed(BANK, 10), 10);
    assert.match(
      node.shortages.join(),
      /^NetworkPolicy shop\/wide: spec.ingress\[20\] \(wide.yaml:\d+\): the policies of/,
    );
    assert.match(node.shortages.join(), /address blocks and exceptions: of 10 rules some peers match nobody/);
    node.become(...others, policy('shop', limit));
    assert.deepEqual([node.shortages, node.allowed(SHOP, 30)], [[], limit]);
    node.become(...others, policy('shop', 30));
    node.become(pod('shop', SHOP), pod('bank', BANK), policy('shop', 10), policy('shop', 12).replace('wide', 'more'));
    assert.deepEqual([node.shortages, node.allowed(SHOP, 12)], [[], 12]);
  });
}

test('who lacks blocks because of another namespace has them as soon as that one gives some back', () => {
  const node = new Node(PLENTY, { namespace: MUCH, node: { ...MUCH, blocks: 30 } });
  const pods = [pod('shop', SHOP), pod('bank', BANK)];
  node.become(...pods, policy('bank', 20));
  node.become(...pods, policy('bank', 20), policy('shop', 20));
  assert.deepEqual([node.allowed(BANK, 20), node.allowed(SHOP, 20)], [20, 10]);
  node.become(...pods, policy('bank', 15), policy('shop', 20));
  assert.deepEqual([node.allowed(BANK, 20), node.allowed(SHOP, 20)], [15, 15]);
  node.become(...pods, policy('shop', 20));
  assert.deepEqual([node.allowed(SHOP, 20), node.shortages], [20, []]);
});

test('selectors that are looked at for every pod have a limit in a namespace; those that name a label have none', () => {
  const node = new Node(PLENTY, { namespace: { ...MUCH, labels: 3 * 1024 }, node: MUCH });
  const rules = (expression: (index: number) => string): string => {
    const all = Array.from({ length: 10 }, (_, index) => {
      return `{from: [{podSelector: {matchExpressions: [${expression(index)}]}}], ports: [{port: ${index + 1}}]}`;
    });
    return policy('shop', 0).replace('ingress: []', `ingress: [${all}]`);
  };
  const client = pod('shop', '10.0.0.9').replace('name: p', 'name: client, labels: {app: a}');
  const allowed = (): number => {
    return Array.from({ length: 10 }, (_, index) => node.allows('10.0.0.9', SHOP, index + 1)).filter(Boolean).length;
  };
  const wide = rules((index) => `{key: app, operator: NotIn, values: [x${index}]}`);
  node.become(pod('shop', SHOP), client, wide);
  assert.equal(allowed(), 3);
  assert.match(
    node.shortages.join(),
    /spec.ingress\[3\] .* 3072 values of selectors .*: of 7 rules some peers match nobody/,
  );
  node.become(pod('shop', SHOP), client, wide, wide.replace('wide', 'same'));
  assert.equal(allowed(), 3, 'what is asked twice counts once');
  const narrow = rules((index) => `{key: app, operator: In, values: [a, x${index}]}`);
  node.become(pod('shop', SHOP), client, narrow);
  assert.deepEqual([allowed(), node.shortages], [10, []]);
  const alone = rules((index) => `{key: k${index}, operator: Exists}`);
  const keys = Array.from({ length: 10 }, (_, index) => `k${index}: x`).join(', ');
  node.become(pod('shop', SHOP), client.replace('app: a', keys), alone);
  assert.deepEqual([allowed(), node.shortages], [10, []]);
  const beside = rules((index) => `{key: app, operator: Exists}, {key: app, operator: NotIn, values: [x${index}]}`);
  node.become(pod('shop', SHOP), client, beside);
  assert.equal(allowed(), 1, 'all are found by the same key, and have two requirements');
  const anywhere = alone.replaceAll('[{podSelector', '[{namespaceSelector: {}, podSelector');
  node.become(pod('shop', SHOP), client.replace('app: a', keys), anywhere);
  assert.equal(allowed(), 3, 'other selectors of namespaces may come with the same key');
});

test('a selector of many requirements counts as as many, and a peer with exceptions as many blocks', () => {
  const limits = { blocks: 300, labels: 3 * 1024 };
  const node = new Node(PLENTY, { namespace: limits, node: limits });
  const client = pod('shop', '10.1.0.1').replace('name: p', 'name: c');
  const rule = (peer: string): string => {
    return policy('shop', 0).replace('ingress: []', `ingress: [{from: [${peer}], ports: [{port: 1}]}]`);
  };
  const selector = (count: number): string => {
    const expressions = Array.from({ length: count }, (_, key) => `{key: k${key}, operator: DoesNotExist}`);
    return rule(`{podSelector: {matchExpressions: [${expressions}]}}`);
  };
  const but = (holes: number): string => {
    const except = Array.from({ length: holes }, (_, index) => `10.9.${index}.0/24`);
    return rule(`{ipBlock: {cidr: 10.0.0.0/8, except: [${except}]}}`);
  };
  for (const [fits, spec] of [
    [true, selector(3)],
    [false, selector(4)],
    [true, but(300 - 128 - 1)],
    [false, but(300 - 128)],
  ] as const) {
    node.become(pod('shop', SHOP), client, spec);
    assert.equal(node.allows('10.1.0.1', SHOP, 1), fits);
    assert.equal(node.shortages.length, fits ? 0 : 1);
  }
});

test('with a larger share, the same policies let everybody through', () => {
  const node = new Node(PLENTY);
  node.become(pod('shop', SHOP), policy('shop', 30));
  assert.equal(node.allowed(SHOP, 30), 30);
  assert.deepEqual(node.shortages, []);
});

test('a share that is used up leaves short lists for everybody in force, and closes long ones', () => {
  const node = new Node({ ...PLENTY, entries: 700 });
  const open = (count: number): number[] => Array.from({ length: count }, (_, index) => 1001 + 2 * index);
  const group = (name: string, address: string): string => {
    return pod('shop', address).replace('name: p', `name: ${name}, labels: {app: ${name}}`);
  };
  const ports = (name: string, count: number): string => {
    const text = policy('shop', 0, open(count)).replace('wide', name);
    return text.replace('podSelector: {}', `podSelector: {matchLabels: {app: ${name}}}`);
  };
  const pods = [group('a', SHOP), group('b', '10.0.0.3'), group('c', '10.0.0.4')];
  node.become(...pods, ports('a', 300), ports('b', 280), ports('c', 60));
  assert.equal(node.allows('192.0.2.1', SHOP, 1599), true);
  assert.equal(node.allows('192.0.2.1', '10.0.0.3', 1001), false);
  assert.equal(node.allows('192.0.2.1', '10.0.0.4', 1119), true);
  assert.match(node.shortages[0] ?? '', /^NetworkPolicy shop\/b: .*all peers of 1 groups of pods, are denied/);
  node.become(...pods, ports('b', 280), ports('c', 5));
  assert.equal(node.allows('192.0.2.1', '10.0.0.3', 1001), true);
  assert.equal(node.allows('192.0.2.1', '10.0.0.3', 1002), false);
  assert.deepEqual(node.shortages, []);
});

test('a pod that splits the peers of a full namespace is denied itself, and nobody loses what they have', () => {
  const node = new Node({ ...PLENTY, classes: 10 });
  const before = [pod('shop', SHOP), policy('shop', 10)];
  node.become(...before);
  assert.equal(node.allowed(SHOP, 10), 10);
  const bank = policy('bank', 0).replace('ingress: []', 'ingress: [{from: [{ipBlock: {cidr: 10.1.0.128/25}}]}]');
  node.become(...before, pod('bank', BANK), bank);
  assert.equal(node.allowed(SHOP, 10), 10);
  assert.equal(node.allows('10.1.0.129', SHOP, 1), false);
  assert.equal(node.allows('10.1.0.129', BANK, 1), true);
  assert.equal(node.shortages.length, 1);
});

// Policies that are valid and huge: what one namespace writes must not hold up everybody's compiler.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { reach } from '#analyze/reach.ts';
import { parseManifest } from '#cluster/manifests/parse.ts';
import { buildWorld } from '#cluster/world/build.ts';
import { diffWorlds } from '#cluster/world/diff.ts';
import { Compiler } from '#compile/compiler.ts';
import { NODE_SHARE } from '#compile/shares.ts';
import { shortageText } from '#compile/shortage.ts';
import { judge } from '#datapath/reference/verdict.ts';
import { type Address, parseAddress } from '#net/address.ts';
import { TCP } from '#net/protocol.ts';
import { STANDARD_SEMANTICS, type World } from '#policy/world.ts';

const NOTHING: World = { namespaces: new Map(), nodes: new Map(), pods: new Map(), policies: new Map() };
const POD = `apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec: {containers: []}
status: {podIP: 10.0.0.1}
`;

/** A hundred times what it takes here, a tenth of what it takes where every part is compared with every other. */
const LIMIT_MS = 12_000;

type Flow = { readonly from: string; readonly port: number; readonly allowed: boolean };

function address(text: string): Address {
  const parsed = parseAddress(text);
  assert.ok(parsed);
  return parsed;
}

function check(what: string, ingress: string, flows: readonly Flow[], pod = POD): void {
  test(`${what} is compiled and told in seconds, and means what it says`, () => {
    const policy = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: huge, namespace: shop}
spec: {podSelector: {}, ingress: [${ingress}]}
`;
    const { objects, diagnostics } = parseManifest(`${pod}---\n${policy}`, 'huge.yaml');
    const { world } = buildWorld(objects);
    assert.deepEqual(diagnostics, []);
    const compiler = new Compiler({ semantics: STANDARD_SEMANTICS, isLocal: () => true });
    const started = performance.now();
    compiler.apply(diffWorlds(NOTHING, world));
    const { rows } = reach(world, compiler.plan);
    const took = performance.now() - started;
    assert.ok(rows.length > 0);
    for (const { from, port, allowed } of flows) {
      const flow = { from: address(from), to: address('10.0.0.1'), protocol: TCP, port };
      assert.equal(judge(compiler.plan, flow).verdict, allowed ? 'allow' : 'deny', `${from} ${port}`);
    }
    assert.ok(took < LIMIT_MS, `${Math.round(took)} ms`);
  });
}

/** The `index`th block of 256 addresses, from 11.0.0.0 on; `host` is an address in it. */
const block = (index: number, host = 0): string => `${11 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}.${host}`;
const list = (count: number, item: (index: number) => string): string =>
  Array.from({ length: count }, (_, i) => item(i)).join(', ');

check(
  'a policy of 40 000 address blocks',
  `{from: [${list(40_000, (index) => `{ipBlock: {cidr: ${block(2 * index)}/24}}`)}]}`,
  [
    { from: block(0, 1), port: 80, allowed: true },
    { from: block(1, 1), port: 80, allowed: false },
    { from: block(79_998, 255), port: 80, allowed: true },
    { from: block(79_999, 0), port: 80, allowed: false },
  ],
);

check(
  'a policy of 40 000 exceptions',
  `{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [${list(40_000, (index) => `${block(2 * index)}/24`)}]}}]}`,
  [
    { from: block(0, 1), port: 80, allowed: false },
    { from: block(1, 1), port: 80, allowed: true },
    { from: block(79_998, 255), port: 80, allowed: false },
    { from: block(79_999, 0), port: 80, allowed: true },
  ],
);

check('a policy of every other port', `{ports: [${list(32_768, (index) => `{port: ${2 * index + 1}}`)}]}`, [
  { from: '192.0.2.1', port: 1, allowed: true },
  { from: '192.0.2.1', port: 2, allowed: false },
  { from: '192.0.2.1', port: 65_535, allowed: true },
]);

check(
  'a policy of 1 000 rules with a port each',
  list(
    1_000,
    (index) => `{from: [{ipBlock: {cidr: ${block(index)}/${8 + (index % 17)}}}], ports: [{port: ${index + 1}}]}`,
  ),
  [
    { from: '11.255.0.1', port: 1, allowed: true },
    { from: '11.255.0.1', port: 2, allowed: false },
    { from: block(999, 3), port: 1000, allowed: true },
  ],
);

check(
  'a policy of 20 000 blocks, each of them everything but one address',
  `{from: [${list(20_000, (index) => `{ipBlock: {cidr: 0.0.0.0/0, except: [${block(index, 1)}/32]}}`)}]}`,
  [
    { from: block(0, 1), port: 80, allowed: true },
    { from: '192.0.2.1', port: 80, allowed: true },
  ],
);

check(
  'a policy of 10 000 blocks with 8 exceptions each',
  `{from: [${list(10_000, (index) => `{ipBlock: {cidr: ${block(2 * index)}/24, except: [${list(8, (hole) => `${block(2 * index, 16 * hole)}/28`)}]}}`)}]}`,
  [
    { from: block(0, 127), port: 80, allowed: false },
    { from: block(0, 128), port: 80, allowed: true },
    { from: block(1, 128), port: 80, allowed: false },
  ],
);

check(
  'a policy of 10 000 expressions, and one of 20 000 values',
  `{from: [{podSelector: {matchExpressions: [${list(10_000, (index) => `{key: k${index}, operator: NotIn, values: [a]}`)}]}}]},
   {from: [{podSelector: {matchExpressions: [{key: app, operator: In, values: [${list(20_000, (index) => `v${index}`)}]}]}}]}`,
  [
    { from: '10.0.0.1', port: 80, allowed: true },
    { from: '192.0.2.1', port: 80, allowed: false },
  ],
);

check(
  'a policy of 15 000 named ports, and a pod that has them all',
  `{ports: [${list(15_000, (index) => `{port: p${index}}`)}]}], egress: [{ports: [${list(15_000, (index) => `{port: p${index}}`)}]}`,
  [
    { from: '192.0.2.1', port: 15_000, allowed: true },
    { from: '192.0.2.1', port: 15_001, allowed: false },
  ],
  POD.replace(
    'containers: []',
    `containers: [{name: c, ports: [${list(15_000, (index) => `{name: p${index}, containerPort: ${index + 1}}`)}]}]`,
  ),
);

/** Policies whose tables would be as many ranges of ports as peers, times ports: a share of a node bounds them. */
function bounded(what: string, ingress: string): void {
  test(`${what} takes no more than its namespace's share, in seconds, and holds for nobody else`, () => {
    const pods = Array.from({ length: 200 }, (_, index) => {
      const named = POD.replace('name: web', `name: web-${index}, labels: {app: a${index}}`);
      return named.replace('10.0.0.1', `10.0.0.${index + 1}`);
    });
    const bank = POD.replace('namespace: shop', 'namespace: bank').replace('10.0.0.1', '10.1.0.1');
    const policy = (namespace: string, rules: string): string => `---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: huge, namespace: ${namespace}}
spec: {podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [a1]}]}, ingress: [${rules}]}
`;
    const own = policy('bank', '{from: [{ipBlock: {cidr: 11.0.0.0/16}}], ports: [{port: 80}]}');
    const { objects, diagnostics } = parseManifest(
      [...pods, bank].join('---\n') + own + policy('shop', ingress),
      'huge.yaml',
    );
    const { world } = buildWorld(objects);
    assert.deepEqual(diagnostics, []);
    const compiler = new Compiler({ semantics: STANDARD_SEMANTICS, isLocal: () => true });
    const before = process.memoryUsage.rss();
    const started = performance.now();
    compiler.apply(diffWorlds(NOTHING, world));
    const took = performance.now() - started;
    const intervals = [...compiler.plan.tables.values()].reduce((sum, table) => sum + table.length, 0);
    assert.ok(intervals < NODE_SHARE.entries, `${intervals} intervals`);
    assert.match(
      compiler.shortages.map(shortageText).join(),
      /^NetworkPolicy shop\/huge: spec.ingress\[0\] \(huge.yaml:/,
    );
    const ask = (from: string, to: string, port: number): string => {
      return judge(compiler.plan, { from: address(from), to: address(to), protocol: TCP, port }).verdict;
    };
    assert.equal(ask('11.0.5.1', '10.1.0.1', 80), 'allow');
    assert.equal(ask('11.0.5.1', '10.1.0.1', 81), 'deny');
    assert.equal(ask('192.0.2.1', '10.0.0.1', 2), 'deny');
    assert.ok(took < LIMIT_MS, `${Math.round(took)} ms`);
    assert.ok(process.memoryUsage.rss() - before < 500e6);
  });
}

const ODD_PORTS = list(32_768, (index) => `{port: ${2 * index + 1}}`);
bounded(
  'a policy of every other port from everywhere, and 4 999 blocks with a port each',
  `{from: [{ipBlock: {cidr: 0.0.0.0/0}}], ports: [${ODD_PORTS}]}, ${list(4999, (index) => `{from: [{ipBlock: {cidr: ${block(index)}/24}}], ports: [{port: ${2 * (index + 1)}}]}`)}`,
);
bounded(
  'a policy of every other port for all pods, and a rule for each of them',
  `{from: [{namespaceSelector: {}}], ports: [${ODD_PORTS}]}, ${list(200, (index) => `{from: [{podSelector: {matchLabels: {app: a${index}}}}], ports: [{port: ${2 * (index + 1)}}]}`)}`,
);
bounded(
  'a policy of 5 000 rules for blocks inside each other',
  list(5000, (index) => {
    const ones = ((1n << 128n) - 1n) << BigInt(127 - (index % 128));
    const words = ((1n << 128n) - 1n) & ones;
    const text = words.toString(16).padStart(32, '0').match(/.{4}/g)?.join(':') ?? '';
    return `{from: [{ipBlock: {cidr: "${text}/${1 + (index % 128)}"}}, {ipBlock: {cidr: ${block(index)}/${8 + (index % 17)}}}], ports: [{port: ${2 * index + 1}}]}`;
  }),
);

test('rules by selectors that hold of every pod, as many as are taken, are compiled and taken away in seconds', () => {
  const pods = Array.from({ length: 500 }, (_, index) => {
    const named = POD.replace('name: web', `name: web-${index}, labels: {app: a${index}}`);
    return named.replace('10.0.0.1', `10.0.${index >> 8}.${index & 255}`);
  });
  const wide = list(4000, (index) => {
    const selector = `{matchExpressions: [{key: app, operator: NotIn, values: [x${index}]}]}`;
    return `{from: [{podSelector: ${selector}}], ports: [{port: ${index + 1}}]}`;
  });
  const apart = list(500, (index) => {
    return `{from: [{podSelector: {matchLabels: {app: a${index}}}}], ports: [{port: ${index + 1}, protocol: UDP}]}`;
  });
  const policy = `---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: huge, namespace: shop}
spec: {podSelector: {matchLabels: {app: a0}}, ingress: [${wide}, ${apart}]}
`;
  const { objects } = parseManifest(pods.join('---\n') + policy, 'huge.yaml');
  const { world } = buildWorld(objects);
  const compiler = new Compiler({ semantics: STANDARD_SEMANTICS, isLocal: () => true });
  const started = performance.now();
  compiler.apply(diffWorlds(NOTHING, world));
  compiler.apply(diffWorlds(world, { ...world, policies: new Map() }));
  const took = performance.now() - started;
  assert.ok(took < LIMIT_MS, `${Math.round(took)} ms`);
});

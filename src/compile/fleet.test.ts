// Several workloads with layers of their own that share policies, of all tiers and actions, with named ports and pods that are
// not known yet: whatever came in one batch, waited or was behind, once nothing is, each peer meets what evaluate() says; and
// where a namespace has little room, nobody is let through who should not be.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { judge } from '#datapath/reference/verdict.ts';
import { type Address, parseAddress } from '#net/address.ts';
import { parseCidr } from '#net/cidr.ts';
import { TCP } from '#net/protocol.ts';
import { evaluate } from '#policy/evaluate.ts';
import { type Peers, type Policy, type Port, policyKey, type Rule, type RuleId, type Tier } from '#policy/model.ts';
import type { LabelSelector, Labels } from '#policy/selector.ts';
import { type Pod, podKey, type WorldEvent } from '#policy/world.ts';
import { worldOf } from '#test/support/arbitrary-world.ts';
import { danglingPointer, inMaps, withoutNumbers } from '#test/support/plan-check.ts';
import { holds } from '#test/support/property.ts';
import { applyStep, emptyPlan, type MutablePlan } from './apply.ts';
import { Compiler } from './compiler.ts';
import { GradualCompiler } from './gradual.ts';
import type { Step } from './plan.ts';
import { NODE_SHARE, type Taken } from './shares.ts';

const SHOP = { kind: 'named', name: 'shop' } as const;
const ALL = { kind: 'labelled', selector: { requirements: [] } } as const;
const TEAM = { kind: 'labelled', selector: { requirements: [{ op: 'NotIn', key: 'team', values: ['a'] }] } } as const;
const TIERS: readonly Tier[] = [
  { name: 'first', position: 100, end: 'none' },
  { name: 'second', position: 200, end: 'none' },
  { name: 'third', position: 300, end: 'deny' },
  { name: 'baseline', position: 10_000_000, end: 'none' },
];

function address(text: string): Address {
  return parseAddress(text) ?? assert.fail(text);
}

function pod(name: string, at: string, body: Pick<Pod, 'namespace' | 'node' | 'labels' | 'ports'>): Pod {
  const workload = { kind: 'Pod', namespace: body.namespace, name };
  const fixed = { hostNetwork: false, finished: false, workload, name, addresses: [address(at)] };
  return { ...fixed, ...body, key: podKey(body.namespace, name) };
}

const APPS = ['web', 'api', 'db', 'job'];
const LOCAL = APPS.map((app, at) =>
  pod(app, `10.0.0.${at + 1}`, { namespace: at < 2 ? 'shop' : 'other', node: 'here', labels: { app }, ports: [] }),
);
const PEERS = [1, 2, 3, 4, 5].map((at) => `10.0.1.${at}`);
/** In a pod block, and nobody's; and outside. */
const OTHERS = ['10.0.1.99', '10.0.2.1', '8.8.8.8'];

const labels: fc.Arbitrary<Labels> = fc.dictionary(fc.constantFrom('color', 'size'), fc.constantFrom('a', 'b', 'c'), {
  maxKeys: 2,
  size: 'max',
});
const peer = fc
  .record({
    at: fc.nat({ max: PEERS.length - 1 }),
    namespace: fc.constantFrom('shop', 'other'),
    labels,
    ports: fc.array(
      fc.constantFrom(1, 2, 5).map((port) => ({ name: 'http', protocol: TCP, port })),
      { maxLength: 1 },
    ),
  })
  .map(({ at, ...body }) => pod(`peer-${at}`, PEERS[at] ?? '', { ...body, node: 'there' }));

const requirement = fc.oneof(
  fc.record({
    op: fc.constantFrom('In' as const, 'In' as const, 'NotIn' as const),
    key: fc.constantFrom('color', 'size'),
    values: fc.subarray(['a', 'b', 'c'], { maxLength: 2 }),
  }),
  fc.record({ op: fc.constantFrom('Exists' as const, 'DoesNotExist' as const), key: fc.constantFrom('color', 'size') }),
);
const selector: fc.Arbitrary<LabelSelector> = fc.record({ requirements: fc.array(requirement, { maxLength: 2 }) });
const peers: fc.Arbitrary<Peers> = fc.oneof(
  { weight: 1, arbitrary: fc.constant<Peers>({ kind: 'any' }) },
  {
    weight: 6,
    arbitrary: fc
      .array(
        fc.oneof(
          {
            weight: 5,
            arbitrary: fc.record({
              kind: fc.constant('pods' as const),
              namespaces: fc.constantFrom(SHOP, ALL, TEAM),
              pods: selector,
            }),
          },
          {
            weight: 1,
            arbitrary: fc.constantFrom('10.0.1.0/24', '10.0.1.2/31', '10.0.1.4/32', '0.0.0.0/0').map((text) => {
              return { kind: 'cidr' as const, cidr: parseCidr(text)?.cidr ?? assert.fail(text), except: [] };
            }),
          },
        ),
        { minLength: 1, maxLength: 2 },
      )
      .map((these): Peers => ({ kind: 'these', peers: these })),
  },
);
const number = fc.integer({ min: 1, max: 6 });
const port: fc.Arbitrary<Port> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc
      .tuple(number, number)
      .map(([a, b]): Port => ({ kind: 'range', protocol: TCP, first: Math.min(a, b), last: Math.max(a, b) })),
  },
  { weight: 1, arbitrary: fc.constant<Port>({ kind: 'named', protocol: TCP, name: 'http' }) },
);
const rule = fc.record({
  action: fc.constantFrom('allow', 'allow', 'deny', 'pass', 'reject'),
  peers,
  ports: fc.oneof(
    fc.constant<Rule['ports']>({ kind: 'any' }),
    fc.array(port, { minLength: 1, maxLength: 2 }).map((ports): Rule['ports'] => ({ kind: 'these', ports })),
  ),
});
const allowing = rule.map((one) => ({ ...one, action: 'allow' }) as const);
type Drawn = Pick<Rule, 'action' | 'peers' | 'ports'>;
const rules = fc.oneof(
  fc.array(allowing as fc.Arbitrary<Drawn>, { maxLength: 3, size: 'max' }),
  fc.array(rule as fc.Arbitrary<Drawn>, { maxLength: 3, size: 'max' }),
);
const subjects: fc.Arbitrary<LabelSelector> = fc.constantFrom<LabelSelector>(
  { requirements: [] },
  { requirements: [] },
  { requirements: [{ op: 'In', key: 'app', values: ['web', 'api'] }] },
  ...APPS.map((app): LabelSelector => ({ requirements: [{ op: 'In', key: 'app', values: [app] }] })),
);
type Body = { readonly subject: Policy['subject'] } & { readonly [what in 'ingress' | 'egress']?: readonly Drawn[] };

/** Policy `at`, in one tier of four. */
function policyOf(at: number, { subject, end = false, ingress = [], egress = [] }: Body & { readonly end?: boolean }) {
  const name = `p${at}`;
  const tier = TIERS[at % TIERS.length] ?? assert.fail();
  const source = { dialect: 'k', kind: 'Policy', namespace: 'shop', name, path: '', file: null, line: null };
  const rulesOf = (way: string, list: readonly Drawn[]): Rule[] =>
    list.map((one, index) => ({ ...one, id: `${name}/${way}${index}` as RuleId, source }));
  const value: Policy = {
    ...{ key: policyKey('policy', 'shop', name), tier, order: name, source, subject },
    isolates: { egress: end && egress.length > 0, ingress: end },
    egress: rulesOf('e', egress),
    ingress: rulesOf('i', ingress),
  };
  return { kind: 'policy', key: value.key, value } as const;
}

function labelled(key: string, value: string): LabelSelector {
  return { requirements: [{ op: 'In', key, values: [value] }] };
}

const policy = fc
  .record({
    number: fc.nat({ max: 7 }),
    subject: subjects,
    end: fc.boolean(),
    ingress: rules,
    egress: fc.oneof(fc.constant<Drawn[]>([]), rules),
    gone: fc.constantFrom(false, false, false, true),
  })
  .map(({ number: at, subject, gone, ...body }): WorldEvent => {
    const event = policyOf(at, { ...body, subject: { namespaces: ALL, pods: subject } });
    return gone ? { ...event, value: null } : event;
  });
const other: fc.Arbitrary<WorldEvent> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc
      .tuple(peer, fc.nat({ max: 4 }))
      .map(([value, dice]): WorldEvent => ({ kind: 'pod', key: value.key, value: dice === 0 ? null : value })),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.constantFrom('shop', 'other'), fc.constantFrom<Labels>({}, { team: 'a' }, { team: 'b' }))
      .map(([name, own]): WorldEvent => {
        return { kind: 'namespace', name, value: { name, labels: own } };
      }),
  },
  {
    weight: 1,
    arbitrary: fc.boolean().map((has): WorldEvent => {
      const podCidrs = has ? [parseCidr('10.0.1.0/24')?.cidr ?? assert.fail()] : [];
      return { kind: 'node', name: 'there', value: { name: 'there', labels: {}, podCidrs, addresses: [] } };
    }),
  },
);
const batch = fc.oneof(
  { weight: 3, arbitrary: policy.map((one) => [one]) },
  {
    weight: 2,
    arbitrary: fc
      .tuple(fc.array(policy, { minLength: 1, maxLength: 3 }), fc.array(other, { maxLength: 2 }))
      .map((two) => two.flat()),
  },
  { weight: 1, arbitrary: fc.array(other, { minLength: 1, maxLength: 2 }) },
);
const turns = fc.array(fc.record({ batch, slices: fc.constantFrom(0, 0, 1, 2, 5, 1000) }), {
  minLength: 5,
  maxLength: 14,
  size: 'max',
});
const start = fc.array(peer, { minLength: 3, maxLength: 6 });

function* flows() {
  for (const own of LOCAL) {
    for (const text of [...PEERS, ...OTHERS]) {
      for (let at = 0; at <= 7; at++) {
        const [one, two] = [own.addresses[0] ?? assert.fail(), address(text)];
        yield { leg: 'ingress', flow: { from: two, to: one, protocol: TCP, port: at } } as const;
        yield { leg: 'egress', flow: { from: one, to: two, protocol: TCP, port: at } } as const;
      }
    }
  }
}
const FLOWS = [...flows()];

const isLocal = (one: Pod): boolean => one.node === 'here';
const few = fc.constantFrom(0, 0, 1, 2, Number.POSITIVE_INFINITY);
const place = fc.record({ ipBlockPods: fc.boolean() });
function podsAs(pods: readonly Pod[]): WorldEvent[] {
  return [...LOCAL, ...pods].map((value) => ({ kind: 'pod', key: value.key, value }));
}

/** Makes the steps in a Plan, and has looked after each what in it points to nothing (null: all is there). */
function replayOn(
  plan: MutablePlan,
  look: (dangling: string | null, step: string) => void,
): (steps: readonly Step[]) => void {
  return (steps) => {
    for (const step of steps) {
      applyStep(plan, step);
      look(danglingPointer(plan), JSON.stringify(step));
    }
  };
}

test('once nothing waits or is behind, each peer meets what evaluate() says at each workload', (context) => {
  const count = { idle: 0, busy: 0 };
  const property = fc.property(start, turns, place, few, (first, list, semantics, most) => {
    const compiler = new Compiler({ semantics, isLocal });
    const gradual = new GradualCompiler(compiler, most, 1);
    const events = podsAs(first);
    const plan = emptyPlan();
    const replay = replayOn(plan, (dangling, step) => assert.equal(dangling, null, step));
    const check = (): void => {
      if (gradual.isBusy) {
        count.busy++;
        return;
      }
      count.idle++;
      const world = worldOf(events);
      for (const { leg, flow } of FLOWS)
        assert.deepEqual(judge(compiler.plan, flow)[leg], evaluate(world, flow, semantics)[leg]);
    };
    let revision = 1;
    replay(gradual.apply([...events], revision++));
    for (const { batch: own, slices } of list) {
      replay(gradual.apply(own, revision++));
      events.push(...own);
      check();
      for (let at = 0; at < slices && gradual.isBusy; at++) replay(gradual.advance(1));
      check();
    }
    while (gradual.isBusy) replay(gradual.advance(1));
    check();
    replay(compiler.merge());
    assert.deepEqual(plan, inMaps(compiler.plan));
    const fresh = new Compiler({ semantics, isLocal });
    fresh.apply(events);
    assert.deepEqual(withoutNumbers(compiler.plan), withoutNumbers(fresh.plan));
  });
  holds(context, property, 25);
  context.diagnostic(JSON.stringify(count));
  assert.ok(count.idle > 0 && count.busy > 0);
});

test('with little room nobody is let through who should not be, and where nothing is short everybody is who should be', (context) => {
  const count = { short: 0, enough: 0, less: 0 };
  const share: fc.Arbitrary<Taken> = fc.record({
    entries: fc.integer({ min: 5, max: 80 }),
    ranges: fc.integer({ min: 5, max: 80 }),
    classes: fc.integer({ min: 1, max: 30 }),
  });
  const property = fc.property(
    start,
    turns,
    fc.record({ semantics: place, share }),
    few,
    (first, list, { semantics, share }, most) => {
      const compiler = new Compiler({ semantics, isLocal, share });
      const gradual = new GradualCompiler(compiler, most, 1);
      const events = podsAs(first);
      const plan = emptyPlan();
      // A table that denies for want of room may name a rule that is gone.
      const replay = replayOn(plan, (dangling, step) => assert.match(dangling ?? '→ rule', /→ rule/, step));
      let revision = 1;
      replay(gradual.apply([...events], revision++));
      for (const { batch: own, slices } of list) {
        replay(gradual.apply(own, revision++));
        events.push(...own);
        for (let at = 0; at < slices && gradual.isBusy; at++) replay(gradual.advance(1));
        if (gradual.isBusy) continue;
        const world = worldOf(events);
        const isShort = compiler.shortages.length > 0;
        if (isShort) count.short++;
        else count.enough++;
        for (const { leg, flow } of FLOWS) {
          const [found, right] = [judge(compiler.plan, flow)[leg], evaluate(world, flow, semantics)[leg]];
          if (!isShort) assert.deepEqual(found.verdict, right.verdict);
          else if (found.verdict === 'allow') assert.equal(right.verdict, 'allow');
          else if (right.verdict === 'allow') count.less++;
        }
      }
      assert.deepEqual(plan, inMaps(compiler.plan));
    },
  );
  holds(context, property, 100);
  context.diagnostic(JSON.stringify(count));
  assert.ok(count.short > 0 && count.enough > 0 && count.less > 0);
});

const SOME: Peers = { kind: 'these', peers: [{ kind: 'pods', namespaces: SHOP, pods: labelled('color', 'a') }] };
const ANY = { peers: { kind: 'any' }, ports: { kind: 'any' } } as const;
const EVERYWHERE: Policy['subject'] = { namespaces: ALL, pods: { requirements: [] } };

function only(app: string): Policy['subject'] {
  return { namespaces: ALL, pods: labelled('app', app) };
}

function verdictAt({ plan }: Compiler, app: string): string {
  const to = LOCAL.find(({ labels: own }) => own.app === app)?.addresses[0] ?? assert.fail();
  return judge(plan, { from: address(PEERS[0] ?? ''), to, protocol: TCP, port: 1 }).ingress.verdict;
}

/** Four workloads, and a peer that `SOME` is about. */
function compilerWith(policies: readonly WorldEvent[], share: Taken = NODE_SHARE): Compiler {
  const compiler = new Compiler({ semantics: { ipBlockPods: true }, isLocal, share });
  const peer = pod('peer', PEERS[0] ?? '', { namespace: 'shop', node: 'there', labels: { color: 'a' }, ports: [] });
  compiler.apply([...podsAs([peer]), ...policies]);
  return compiler;
}

const PASS: Drawn = { action: 'pass', peers: SOME, ports: { kind: 'any' } };
const DENY: Drawn = { action: 'deny', ...ANY };

for (const [one, other] of [
  ['web', 'api'],
  ['api', 'web'],
] as const) {
  test(`who was let pass to a tier that ${other} has and ${one} has not is so no more at either`, () => {
    const allow: Drawn = { action: 'allow', peers: SOME, ports: { kind: 'any' } };
    const further = policyOf(1, { subject: only(other), ingress: [allow] });
    const compiler = compilerWith([policyOf(0, { subject: EVERYWHERE, ingress: [PASS, DENY] }), further]);
    assert.equal(verdictAt(compiler, other), 'allow');
    compiler.apply([policyOf(0, { subject: EVERYWHERE, ingress: [DENY] })]);
    assert.deepEqual([verdictAt(compiler, one), verdictAt(compiler, other)], ['deny', 'deny']);
  });

  test(`who is let pass meets at ${one} what its own rules for anybody say, and not those of ${other}`, () => {
    const own = policyOf(1, { subject: only(one), ingress: [{ action: 'allow', ...ANY }] });
    const compiler = compilerWith([own, policyOf(5, { subject: only(other), ingress: [DENY] })]);
    compiler.apply([policyOf(0, { subject: EVERYWHERE, ingress: [DENY] })]);
    compiler.apply([policyOf(0, { subject: EVERYWHERE, ingress: [PASS, DENY] })]);
    assert.deepEqual([verdictAt(compiler, one), verdictAt(compiler, other)], ['allow', 'deny']);
  });
}

function onPorts(...numbers: readonly number[]): Rule['ports'] {
  const ports = numbers.map((one): Port => ({ kind: 'range', protocol: TCP, first: one, last: one }));
  return { kind: 'these', ports };
}

for (const [full, spare] of [
  ['web', 'db'],
  ['db', 'web'],
] as const) {
  test(`a class that ${full} has no room for is made again for ${spare}, whose namespace has some`, () => {
    const rules = (...numbers: readonly number[]): Drawn[] => [
      { action: 'allow', peers: SOME, ports: onPorts(...numbers) },
    ];
    const own = (at: number, app: string, ...numbers: readonly number[]): WorldEvent => {
      const ingress: Drawn[] = [{ action: 'allow', peers: { kind: 'any' }, ports: onPorts(...numbers) }];
      return policyOf(at, { subject: only(app), end: true, ingress });
    };
    const before = [
      ...[own(6, full, 21, 23, 25, 27, 29, 31), own(10, spare, 21)],
      policyOf(2, { subject: EVERYWHERE, end: true, ingress: rules(9) }),
    ];
    let apart = 0;
    for (let entries = 10; entries < 60; entries++) {
      const compiler = compilerWith(before, { ...NODE_SHARE, entries });
      compiler.apply([policyOf(2, { subject: EVERYWHERE, end: true, ingress: rules(1, 3, 5, 7) })]);
      assert.equal(danglingPointer(compiler.plan), null);
      const short = new Set(compiler.shortages.map(({ namespace }) => namespace));
      const verdicts = [full, spare].map((app) => verdictAt(compiler, app));
      if (!short.has(spare === 'web' ? 'shop' : 'other')) assert.equal(verdicts[1], 'allow', `${entries} entries`);
      if (verdicts.join() === 'deny,allow') apart++;
    }
    assert.ok(apart > 0);
  });
}

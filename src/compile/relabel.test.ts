// Policies that always come at the same place: order keys run out and are dealt anew, verdicts and rules stay.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { judge } from '#datapath/reference/verdict.ts';
import { parseAddress } from '#net/address.ts';
import { TCP } from '#net/protocol.ts';
import { evaluate } from '#policy/evaluate.ts';
import { DEFAULT_TIER, type Policy, policyKey, type RuleId } from '#policy/model.ts';
import { EVERYTHING } from '#policy/selector.ts';
import { type Pod, podKey, type WorldEvent } from '#policy/world.ts';
import { worldOf } from '#test/support/arbitrary-world.ts';
import { Compiler } from './compiler.ts';

function address(text: string) {
  const parsed = parseAddress(text);
  assert.ok(parsed);
  return parsed;
}

function pod(name: string, at: string): WorldEvent {
  const key = podKey('shop', name);
  const workload = { kind: 'Pod', namespace: 'shop', name };
  const value: Pod = {
    ...{ key, namespace: 'shop', name, labels: { app: name }, node: 'n', addresses: [address(at)], ports: [] },
    ...{ hostNetwork: false, finished: false, workload },
  };
  return { kind: 'pod', key, value };
}

/** A policy that allows any peer on ports from 1 up to its number: of several, the first by name is reported. */
function policy(order: string, last: number): WorldEvent {
  const key = policyKey('networkpolicy', 'shop', order);
  const source = {
    dialect: 'k',
    kind: 'NetworkPolicy',
    namespace: 'shop',
    name: order,
    path: '',
    file: null,
    line: null,
  };
  const ports = { kind: 'these', ports: [{ kind: 'range', protocol: TCP, first: 1, last }] } as const;
  const value: Policy = {
    ...{ key, tier: DEFAULT_TIER, order, source, isolates: { egress: false, ingress: true }, egress: [] },
    subject: { namespaces: { kind: 'named', name: 'shop' }, pods: EVERYTHING },
    ingress: [{ id: `${order}/0` as RuleId, action: 'allow', peers: { kind: 'any' }, ports, source }],
  };
  return { kind: 'policy', key, value };
}

test('each rule is reported as evaluate() reports it while order keys are dealt anew', () => {
  const compiler = new Compiler({ semantics: { ipBlockPods: true }, isLocal: () => true });
  const events = [pod('web', '10.0.0.1'), pod('db', '10.0.0.2'), policy('z', 100)];
  compiler.apply(events);
  let relabelled = false;
  for (let index = 0; index < 60; index++) {
    // One letter less each time: it comes before all the earlier ones.
    const order = `m${'a'.repeat(60 - index)}`;
    const event = policy(order, index + 1);
    const before = ordersOf(compiler);
    compiler.apply([event]);
    relabelled ||= [...before].some(([rule, key]) => ordersOf(compiler).get(rule) !== key);
    events.push(event);
    for (const port of [1, index + 1, index + 2, 100, 101]) {
      const flow = { from: address('10.0.0.1'), to: address('10.0.0.2'), protocol: TCP, port };
      assert.deepEqual(judge(compiler.plan, flow), evaluate(worldOf(events), flow, { ipBlockPods: true }));
    }
  }
  assert.ok(relabelled, 'no key changed: the test is too small');
});

function ordersOf(compiler: Compiler): Map<number, number> {
  return new Map([...compiler.plan.tables.values()].flat().map(({ rule, order }) => [rule, order]));
}

// The steps of a first list come in parts: nothing may be enforced, or opened, before the last of them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Address } from '#net/address.ts';
import { formatAddress } from '#net/address.ts';
import { DEFAULT_TIER, type Policy, policyKey, type RuleId } from '#policy/model.ts';
import { type Pod, podKey, type WorldEvent } from '#policy/world.ts';
import { inMaps } from '#test/support/plan-check.ts';
import { applyStep, emptyPlan } from './apply.ts';
import { Compiler } from './compiler.ts';
import { GradualCompiler } from './gradual.ts';
import type { Step } from './plan.ts';

const PODS = 9000;
const NAMED = { kind: 'named', name: 'shop' } as const;

/** Words with the highest bit set, of both families. */
function addressOf(number: number): Address {
  if (number % 2 === 0) return { family: 4, words: [0xc000_0000 + number] };
  return { family: 6, words: [0xfd00_0000, 0xffff_ffff, 0x8000_0000, number] };
}

/** The first is this node's. */
function pod(number: number): WorldEvent {
  const name = `pod-${number}`;
  const workload = { kind: 'Pod', namespace: 'shop', name };
  const fixed = { namespace: 'shop', ports: [], hostNetwork: false, finished: false, workload };
  const labels = { app: number % 3 === 0 ? 'web' : 'db' };
  const key = podKey('shop', name);
  const value: Pod = {
    ...fixed,
    key,
    name,
    labels,
    node: number === 0 ? 'here' : 'there',
    addresses: [addressOf(number)],
  };
  return { kind: 'pod', key, value };
}

function policy(name: string, app: string): WorldEvent {
  const key = policyKey('networkpolicy', 'shop', name);
  const source = { dialect: 'k', kind: 'NetworkPolicy', namespace: 'shop', name, path: '', file: null, line: null };
  const pods = { requirements: [{ op: 'In', key: 'app', values: [app] }] } as const;
  const from = { kind: 'these', peers: [{ kind: 'pods', namespaces: NAMED, pods }] } as const;
  const value: Policy = {
    ...{ key, tier: DEFAULT_TIER, order: name, source, isolates: { egress: false, ingress: true }, egress: [] },
    subject: { namespaces: NAMED, pods: { requirements: [] } },
    ingress: [{ id: `${name}/0` as RuleId, action: 'allow', peers: from, ports: { kind: 'any' }, source }],
  };
  return { kind: 'policy', key, value };
}

test('the addresses of a first list come in bounded parts, endpoints and all that is gone after them', () => {
  const compiler = new Compiler({ semantics: { ipBlockPods: true }, isLocal: (one) => one.node === 'here' });
  const gradual = new GradualCompiler(compiler);
  const events = [policy('a', 'web'), ...Array.from({ length: PODS }, (_, number) => pod(number))];
  gradual.note(events.slice(0, -1));
  const parts: (readonly Step[])[] = [];
  const rest = gradual.apply(events.slice(-1), 1, (steps) => parts.push(steps));
  const early = parts.flat();
  const words = early.flatMap((step) => (step.kind === 'address' ? [step.address.words.join()] : []));
  assert.deepEqual(
    new Set(words),
    new Set(Array.from({ length: PODS }, (_, number) => addressOf(number).words.join())),
  );
  for (const part of parts) assert.ok(part.length <= 4096, `a part of ${part.length}`);
  for (const step of early) assert.ok(!['endpoint', 'epoch'].includes(step.kind) && !isRemoval(step), step.kind);
  assert.equal(rest.filter(({ kind }) => kind === 'endpoint').length, 1);
  const plan = emptyPlan();
  for (const step of [...early, ...rest]) applyStep(plan, step);
  assert.equal(plan.addresses.size, PODS);
  assert.deepEqual(plan, inMaps(compiler.plan));
});

test('once there is an endpoint, the steps of a change are one list', () => {
  const compiler = new Compiler({ semantics: { ipBlockPods: true }, isLocal: (one) => one.node === 'here' });
  compiler.apply([policy('a', 'web'), pod(0)]);
  const write = (): never => assert.fail('a part of what is to come at once');
  const steps = compiler.apply([policy('b', 'db'), pod(1), pod(3)], { write });
  const moved = steps.flatMap((step) => (step.kind === 'address' ? [formatAddress(step.address)] : []));
  assert.deepEqual(moved.toSorted(), ['fd00:0:ffff:ffff:8000::1', 'fd00:0:ffff:ffff:8000::3']);
});

function isRemoval(step: Step): boolean {
  return 'value' in step && step.value === null;
}

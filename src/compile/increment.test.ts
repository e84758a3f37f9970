// Events in any batches and any order leave what a fresh build of the final objects has; and each step is safe.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { judge } from '#datapath/reference/verdict.ts';
import { formatAddress } from '#net/address.ts';
import { evaluate } from '#policy/evaluate.ts';
import type { Flow, FlowVerdict } from '#policy/verdict.ts';
import type { Pod, WorldEvent } from '#policy/world.ts';
import { arbitraryPolicy } from '#test/support/arbitrary-policy.ts';
import {
  arbitraryFlow,
  arbitraryHistory,
  arbitraryWorld,
  worldEvents,
  worldOf,
} from '#test/support/arbitrary-world.ts';
import { danglingPointer, disorder, inMaps, withoutNumbers } from '#test/support/plan-check.ts';
import { fails, holds } from '#test/support/property.ts';
import { applyStep, emptyPlan, type MutablePlan } from './apply.ts';
import { Compiler } from './compiler.ts';
import { diffPlans } from './diff.ts';
import type { Plan, Step } from './plan.ts';
import { inSafeOrder } from './step-order.ts';

const flows = fc.array(arbitraryFlow, { minLength: 20, maxLength: 20 });
const kinds = fc.constantFrom('network' as const, 'tiered' as const);
const histories = kinds.chain((kind) => arbitraryHistory(kind));

/** A world whose policies come, change and go one by one: what changes layers in place. */
const policyHistories: fc.Arbitrary<WorldEvent[][]> = kinds.chain((kind) => {
  const event = fc.tuple(arbitraryPolicy(kind), fc.nat({ max: 3 })).map(([value, dice]): WorldEvent => {
    return { kind: 'policy', key: value.key, value: dice === 0 ? null : value };
  });
  const events = fc.array(event, { minLength: 6, maxLength: 12, size: 'max' });
  return fc
    .tuple(arbitraryWorld(kind), events)
    .map(([world, then]) => [worldEvents(world), ...then.map((one) => [one])]);
});

type Place = { readonly ipBlockPods: boolean; readonly isLocal: (pod: Pod) => boolean };

/** Where the compiler stands: on one node, or everywhere (the offline analysis). */
const places: fc.Arbitrary<Place> = fc.record({
  ipBlockPods: fc.boolean(),
  isLocal: fc.constantFrom(
    () => true,
    (pod: Pod) => pod.node === 'n1',
  ),
});

function compilerOf({ ipBlockPods, isLocal }: Place): Compiler {
  return new Compiler({ semantics: { ipBlockPods }, isLocal });
}

function fresh(place: Place, events: readonly WorldEvent[]): Compiler {
  const compiler = compilerOf(place);
  compiler.apply(worldEvents(worldOf(events)));
  return compiler;
}

/** Each leg that the Plan judges is judged as evaluate() does; the others are not this node's. */
function checkFlow(plan: Plan, verdict: FlowVerdict, flow: Flow): void {
  const found = judge(plan, flow);
  if (found.egress.reason !== 'not-endpoint') assert.deepEqual(found.egress, verdict.egress);
  if (found.ingress.reason !== 'not-endpoint') assert.deepEqual(found.ingress, verdict.ingress);
}

/** What stands between a history and the compiler: nothing, or a fault that a property must find. */
type Fault = (history: readonly (readonly WorldEvent[])[]) => readonly (readonly WorldEvent[])[];

const none: Fault = (history) => history;
const forgetsFirst: Fault = ([, ...history]) => history;
const forgetsRemovals: Fault = (history) => history.map((batch) => batch.filter((event) => event.value !== null));

function verdictsAfter(fault: Fault): fc.IProperty<[WorldEvent[][], Flow[], Place]> {
  return fc.property(histories, flows, places, (history, sampled, place) => {
    const compiler = compilerOf(place);
    const seen: WorldEvent[] = [];
    for (const [index, batch] of fault(history).entries()) {
      compiler.apply(batch);
      seen.push(...(history[index] ?? []));
      const world = worldOf(seen);
      for (const flow of sampled) checkFlow(compiler.plan, evaluate(world, flow, place), flow);
      assert.equal(disorder(compiler.plan), null);
    }
  });
}

test('after any history, every flow has the verdict, rule and reason of the final objects', (context) => {
  holds(context, verdictsAfter(none), 300);
  fails(verdictsAfter(forgetsRemovals), 1000);
  fails(verdictsAfter(forgetsFirst), 1000);
});

type Ending = (compiler: Compiler) => void;

function partitionAfter(fault: Fault, end: Ending): fc.IProperty<[WorldEvent[][], Place]> {
  return fc.property(histories, places, (history, place) => {
    const compiler = compilerOf(place);
    for (const batch of fault(history)) compiler.apply(batch);
    end(compiler);
    assert.deepEqual(withoutNumbers(compiler.plan), withoutNumbers(fresh(place, history.flat()).plan));
  });
}

test('after any history and a merge, the Plan is that of a fresh build up to its numbers', (context) => {
  const merges: Ending = (compiler) => compiler.merge();
  const doesNotMerge: Ending = () => {};
  holds(context, partitionAfter(none, merges), 600);
  fails(partitionAfter(none, doesNotMerge), 5000);
  fails(partitionAfter(forgetsRemovals, merges), 1000);
});

test('the order of events does not matter', (context) => {
  const shuffled = kinds
    .chain((kind) => arbitraryWorld(kind))
    .chain((world) => fc.tuple(fc.constant(worldEvents(world)), shuffle(worldEvents(world))));
  const property = fc.property(shuffled, places, ([straight, mixed], place) => {
    const compiler = compilerOf(place);
    for (const event of mixed) compiler.apply([event]);
    compiler.merge();
    assert.deepEqual(withoutNumbers(compiler.plan), withoutNumbers(fresh(place, straight).plan));
  });
  holds(context, property, 300);
});

function shuffle(events: readonly WorldEvent[]): fc.Arbitrary<WorldEvent[]> {
  return fc.shuffledSubarray([...events], { minLength: events.length, maxLength: events.length });
}

/** Applies steps one by one and asks after each that nothing points at nothing. */
function replay(plan: MutablePlan, steps: readonly Step[]): void {
  for (const [index, step] of steps.entries()) {
    applyStep(plan, step);
    assert.equal(danglingPointer(plan), null, `after step ${index} of ${steps.length}: ${JSON.stringify(step)}`);
  }
}

test('what a compiler knows, deleted, leaves nothing; what is noted before counts as if applied at once', (context) => {
  const property = fc.property(histories, places, (history, place) => {
    const compiler = compilerOf(place);
    for (const batch of history.slice(0, -1)) compiler.note(batch);
    compiler.apply(history.at(-1) ?? []);
    compiler.merge();
    assert.deepEqual(withoutNumbers(compiler.plan), withoutNumbers(fresh(place, history.flat()).plan));
    compiler.apply([...compiler.known()]);
    compiler.merge();
    assert.deepEqual(withoutNumbers(compiler.plan), withoutNumbers(fresh(place, []).plan));
    assert.deepEqual([...compiler.known()], []);
  });
  holds(context, property, 200);
});

/** What happens to steps on their way: nothing, or a fault. */
type Transport = (steps: readonly Step[]) => readonly Step[];

const whole: Transport = (steps) => steps;
const reversed: Transport = (steps) => [...steps].reverse();
const losesOne: Transport = (steps) => steps.slice(1);
const removalsFirst: Transport = (steps) => [...steps].sort((a, b) => Number(isRemoval(b)) - Number(isRemoval(a)));
const addressesFirst: Transport = (steps) => [...steps].sort((a, b) => Number(isMove(b)) - Number(isMove(a)));
const isRemoval = (step: Step): boolean => 'value' in step && step.value === null;
const isMove = (step: Step): boolean => step.kind === 'address' || step.kind === 'prefix';

function stepsMakePlan(transport: Transport): fc.IProperty<[WorldEvent[][], Place]> {
  return fc.property(histories, places, (history, place) => {
    const compiler = compilerOf(place);
    const plan = emptyPlan();
    for (const batch of history) {
      replay(plan, transport(compiler.apply(batch)));
      assert.deepEqual(plan, inMaps(compiler.plan));
    }
    replay(plan, transport(compiler.merge()));
    assert.deepEqual(plan, inMaps(compiler.plan));
  });
}

test('the steps of a history, one by one, never point at nothing and make the Plan', (context) => {
  holds(context, stepsMakePlan(whole), 300);
  for (const fault of [reversed, losesOne, removalsFirst, addressesFirst]) fails(stepsMakePlan(fault), 1000);
});

test('the steps between any two Plans never point at nothing and make the second', (context) => {
  const property = fc.property(histories, histories, places, (one, other, place) => {
    const before = fresh(place, one.flat()).plan;
    const after = fresh(place, other.flat()).plan;
    const plan = emptyPlan();
    for (const step of diffPlans(plan, before)) applyStep(plan, step);
    assert.deepEqual(plan, inMaps(before));
    replay(plan, diffPlans(before, after));
    assert.deepEqual(plan, inMaps(after));
    assert.deepEqual(diffPlans(after, plan), []);
  });
  holds(context, property, 200);
});

/** How many events changed a layer in place, and what of it. */
type InPlace = { classes: number; bases: number; both: number };

function noInPlace(): InPlace {
  return { classes: 0, bases: 0, both: 0 };
}

/** Counts an event whose steps change what a layer of the Plan says to identities that are there before and after. */
function countInPlace(counts: InPlace, plan: Plan, { steps, after }: { steps: readonly Step[]; after: Plan }): void {
  const stays = (layer: number): boolean => plan.layers.has(layer) && after.layers.has(layer);
  const known = (identity: number): boolean => plan.identities.has(identity) && after.identities.has(identity);
  const classes = steps.some((step) => step.kind === 'class' && stays(step.layer) && known(step.identity));
  const bases = steps.some((step) => step.kind === 'layer' && stays(step.layer));
  counts.classes += Number(classes);
  counts.bases += Number(bases);
  counts.both += Number(classes && bases);
}

function legsBetween(
  transport: Transport,
  { counts = noInPlace(), from = fc.oneof(histories, policyHistories) } = {},
): fc.IProperty<[WorldEvent[][], Flow[], Place]> {
  return fc.property(from, flows, places, (history, sampled, place) => {
    const compiler = compilerOf(place);
    const plan = emptyPlan();
    const last = new Map<string, WorldEvent>();
    for (const event of history.flat()) {
      const own = addressesOf(plan, event);
      if (event.kind === 'pod') {
        for (const address of addressesOf(plan, last.get(event.key) ?? event)) own.add(address);
        last.set(event.key, event);
      }
      const before = sampled.map((flow) => judge(plan, flow));
      const steps = transport(compiler.apply([event]));
      for (const address of addressesOf(compiler.plan, event)) own.add(address);
      const after = sampled.map((flow) => judge(compiler.plan, flow));
      countInPlace(counts, plan, { steps, after: compiler.plan });
      for (const step of steps) {
        applyStep(plan, step);
        // A namespace relabels peers and subjects at once: a leg between two of its pods changes in two steps.
        if (event.kind === 'namespace') continue;
        for (const [index, flow] of sampled.entries()) {
          const between = { before: before[index], after: after[index] };
          // Two addresses of one pod come and go one by one; so do two that a pod inherits from another.
          if (own.has(formatAddress(flow.from)) && own.has(formatAddress(flow.to))) continue;
          if (between.before?.egress.reason === 'self' || between.after?.egress.reason === 'self') continue;
          checkBetween(judge(plan, flow), between, step);
        }
      }
    }
  });
}

/** The addresses that the event's pod has as an endpoint, and those that it says it has. */
function addressesOf(plan: Plan, event: WorldEvent): Set<string> {
  if (event.kind !== 'pod') return new Set();
  const own = [...plan.endpoints].filter(([, { pod }]) => pod === event.key);
  return new Set([...own.map(([address]) => address), ...(event.value?.addresses ?? []).map(formatAddress)]);
}

test('while one event takes effect step by step, each leg has its old or its new verdict', (context) => {
  const counts = noInPlace();
  holds(context, legsBetween(whole, { counts }), 120);
  context.diagnostic(`events that changed a layer in place: ${JSON.stringify(counts)}`);
  assert.ok(counts.classes > 0 && counts.bases > 0 && counts.both > 0);
  // What changes in place must wait for the addresses; the plain order of kinds does not.
  for (const fault of [removalsFirst, inSafeOrder]) fails(legsBetween(fault), 5000);
});

/** The same, where each namespace lets pass what its own policies deny: whose denial it is shows. */
const auditedHistories = policyHistories.map((history) => history.map((batch) => batch.map(audited)));

function audited(event: WorldEvent): WorldEvent {
  if (event.kind !== 'namespace' || event.value === null) return event;
  return { ...event, value: { ...event.value, mode: 'audit' } };
}

test('so it has where namespaces are audited, and what some policies deny passes', (context) => {
  holds(context, legsBetween(whole, { from: auditedHistories }), 120);
});

type Between = { readonly before: FlowVerdict | undefined; readonly after: FlowVerdict | undefined };

function checkBetween(now: FlowVerdict, { before, after }: Between, step: Step): void {
  for (const leg of ['egress', 'ingress'] as const) {
    const allowed = [before?.[leg].verdict, after?.[leg].verdict];
    assert.ok(
      allowed.includes(now[leg].verdict),
      `${leg} is ${now[leg].verdict}, not ${allowed}, ${JSON.stringify(step)}`,
    );
  }
}

/** What a step list names as changed for flows that are open. */
function recheckedBy(steps: readonly Step[]): { own: Set<string>; sets: Set<number>; peers: Set<string> } {
  const named = { own: new Set<string>(), sets: new Set<number>(), peers: new Set<string>() };
  for (const step of steps) {
    if (step.kind === 'endpoint') named.own.add(formatAddress(step.address));
    if (step.kind !== 'epoch') continue;
    for (const set of step.sets) named.sets.add(set);
    for (const peer of step.peers) named.peers.add(formatAddress(peer));
  }
  return named;
}

function openFlowsAreNamed(
  transport: Transport,
  isTold: (event: WorldEvent) => boolean = () => true,
): fc.IProperty<[WorldEvent[][], Flow[], Place]> {
  return fc.property(fc.oneof(histories, policyHistories), flows, places, (history, sampled, place) => {
    const compiler = compilerOf(place);
    for (const batch of history.map((events) => events.filter(isTold))) {
      const before = sampled.map((flow) => judge(compiler.plan, flow));
      const named = recheckedBy(transport(compiler.apply(batch)));
      for (const [index, flow] of sampled.entries()) {
        for (const leg of ['egress', 'ingress'] as const) {
          const [own, peer] = leg === 'egress' ? [flow.from, flow.to] : [flow.to, flow.from];
          const endpoint = compiler.plan.endpoints.get(formatAddress(own));
          const after = judge(compiler.plan, flow)[leg];
          // No endpoint: the flow is dropped for that. A rule with another name but the same verdict is no reason to cut.
          if (endpoint === undefined || before[index]?.[leg].verdict === after.verdict) continue;
          const rechecked =
            named.own.has(formatAddress(own)) || named.sets.has(endpoint[leg]) || named.peers.has(formatAddress(peer));
          assert.ok(rechecked, `${leg} ${formatAddress(own)} with ${formatAddress(peer)}: ${after.verdict}`);
        }
      }
    }
  });
}

test('an open flow whose verdict changes has its endpoint, its set or its peer named', (context) => {
  const withoutEpoch: Transport = (steps) => steps.filter((step) => step.kind !== 'epoch');
  const withoutEndpoints: Transport = (steps) => steps.filter((step) => step.kind !== 'endpoint');
  holds(context, openFlowsAreNamed(whole), 300);
  for (const fault of [withoutEpoch, withoutEndpoints]) fails(openFlowsAreNamed(fault), 1000);
  // Without nodes no pod block comes or goes: the sets named are those whose layers changed in place.
  const withoutSets: Transport = (steps) => steps.map((step) => (step.kind === 'epoch' ? { ...step, sets: [] } : step));
  const isNoNode = (event: WorldEvent): boolean => event.kind !== 'node';
  holds(context, openFlowsAreNamed(whole, isNoNode), 100);
  fails(openFlowsAreNamed(withoutSets, isNoNode), 1000);
});

// A change that waits while its selectors are introduced: at each moment every flow has the verdict of the state before
// or after it, whatever else changes meanwhile; in the end, that of a fresh build.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { judge } from '#datapath/reference/verdict.ts';
import { Waiting } from '#identity/waiting.ts';
import { parseAddress } from '#net/address.ts';
import { evaluate } from '#policy/evaluate.ts';
import { DEFAULT_TIER, type Policy, policyKey, type RuleId } from '#policy/model.ts';
import { EVERYTHING } from '#policy/selector.ts';
import type { Flow, FlowVerdict } from '#policy/verdict.ts';
import { type Pod, podKey, type WorldEvent } from '#policy/world.ts';
import { arbitraryPolicy } from '#test/support/arbitrary-policy.ts';
import {
  arbitraryFlow,
  arbitraryHistory,
  arbitraryWorld,
  worldEvents,
  worldOf,
} from '#test/support/arbitrary-world.ts';
import { danglingPointer, withoutNumbers } from '#test/support/plan-check.ts';
import { fails, holds } from '#test/support/property.ts';
import { applyStep, emptyPlan, type MutablePlan } from './apply.ts';
import { Compiler } from './compiler.ts';
import { GradualCompiler } from './gradual.ts';
import type { Step } from './plan.ts';

const kinds = fc.constantFrom('network' as const, 'network' as const, 'tiered' as const);

/** A batch, and how many slices are worked off after it, of how many addresses. */
type Turn = { readonly batch: readonly WorldEvent[]; readonly slices: number; readonly most: number };

const slices = fc.nat({ max: 4 });
const most = fc.constantFrom(1, 1, 4, 1000);

/** A world, then policies and other things that come, change and go. */
const histories: fc.Arbitrary<Turn[]> = kinds.chain((kind) => {
  const policy = fc.tuple(arbitraryPolicy(kind), fc.nat({ max: 3 })).map(([value, dice]): WorldEvent => {
    return { kind: 'policy', key: value.key, value: dice < 2 ? null : value };
  });
  // One alone more often than two: that is what is in force early.
  const policies = fc.oneof(
    { weight: 3, arbitrary: policy.map((one) => [one]) },
    { weight: 1, arbitrary: fc.array(policy, { minLength: 2, maxLength: 2 }) },
  );
  const turn = fc.record({ batch: policies, slices, most });
  const others = arbitraryHistory(kind).map((batches) => {
    return batches.slice(1).map((batch) => ({ batch, slices: 1, most: 1 }));
  });
  return fc
    .tuple(arbitraryWorld(kind), fc.array(turn, { minLength: 4, maxLength: 8, size: 'max' }), others)
    .chain(([world, own, more]) => {
      const rest = [...own, ...more];
      const first: Turn = { batch: worldEvents(world), slices: 0, most: 1 };
      return fc.shuffledSubarray(rest, { minLength: rest.length }).map((turns) => [first, ...turns]);
    });
});

const flows = fc.array(arbitraryFlow, { minLength: 100, maxLength: 100 });
const places = fc.record({
  ipBlockPods: fc.boolean(),
  isLocal: fc.constantFrom(
    () => true,
    (pod: Pod) => pod.node === 'n1',
  ),
});
type Place = { readonly ipBlockPods: boolean; readonly isLocal: (pod: Pod) => boolean };
type Make = (place: Place) => Compiler;

const sound: Make = ({ ipBlockPods, isLocal }) => new Compiler({ semantics: { ipBlockPods }, isLocal });

/** How often what is worth a test happened. */
type Seen = { slices: number; between: number; held: number; ahead: number };

function nameOf(event: WorldEvent): string {
  return `${event.kind} ${'key' in event ? event.key : event.name}`;
}

/** What is in force and what waits, told apart by the names of what waits. */
class Expected {
  readonly #inForce = new Map<string, WorldEvent>();
  /** Of what waits: every form that it had since. */
  readonly #forms = new Map<string, WorldEvent[]>();

  note(events: readonly WorldEvent[], held: readonly (readonly WorldEvent[])[]): void {
    const waits = new Map(held.flat().map((event) => [nameOf(event), event]));
    for (const event of events) {
      if (!waits.has(nameOf(event))) this.#inForce.set(nameOf(event), event);
      this.#forms.set(nameOf(event), [...(this.#forms.get(nameOf(event)) ?? []), event]);
    }
    this.settle(held);
  }

  /** What no longer waits is in force in its last form. */
  settle(held: readonly (readonly WorldEvent[])[]): void {
    const waits = new Set(held.flat().map(nameOf));
    for (const [name, forms] of this.#forms) {
      const last = forms.at(-1);
      if (waits.has(name) || last === undefined) continue;
      this.#inForce.set(name, last);
      this.#forms.delete(name);
    }
  }

  /** The worlds whose verdicts may be seen: without the first that waits, with it, and with its one policy as it was. */
  *worlds(held: readonly (readonly WorldEvent[])[]) {
    const now = [...this.#inForce.values()];
    yield worldOf(now);
    const [first = []] = held;
    if (first.length === 0) return;
    yield worldOf([...now, ...first]);
    for (const event of first) for (const form of this.#forms.get(nameOf(event)) ?? []) yield worldOf([...now, form]);
  }
}

function checkFlow(found: FlowVerdict, expected: readonly FlowVerdict[], seen: Seen): void {
  const [before, ...after] = expected;
  for (const leg of ['egress', 'ingress'] as const) {
    if (found[leg].reason === 'not-endpoint') continue;
    if (after.length === 0) {
      assert.deepEqual(found[leg], before?.[leg]);
      continue;
    }
    const allowed = expected.map((verdict) => verdict[leg].verdict);
    assert.ok(allowed.includes(found[leg].verdict), `${leg}: ${found[leg].verdict}, neither before nor after`);
    if (found[leg].verdict !== before?.[leg].verdict) seen.between++;
  }
}

function replay(plan: MutablePlan, steps: readonly Step[]): void {
  for (const step of steps) {
    applyStep(plan, step);
    assert.equal(danglingPointer(plan), null, JSON.stringify(step));
  }
}

function oldOrNew(make: Make, seen: Seen): fc.IProperty<[Turn[], Flow[], Place]> {
  return fc.property(histories, flows, places, (history, sampled, place) => {
    const compiler = make(place);
    const gradual = new GradualCompiler(compiler, 0);
    const expected = new Expected();
    const plan = emptyPlan();
    let allowed: FlowVerdict[][] = [];
    const expect = (): void => {
      const worlds = [...expected.worlds(gradual.held)];
      allowed = sampled.map((flow) => worlds.map((world) => evaluate(world, flow, place)));
    };
    const check = (steps: readonly Step[]): void => {
      replay(plan, steps);
      for (const [index, flow] of sampled.entries()) {
        checkFlow(judge(compiler.plan, flow), allowed[index] ?? [], seen);
      }
    };
    const slice = (most: number): void => {
      const waited = gradual.held.length;
      const steps = gradual.advance(most);
      if (gradual.held.length < waited) {
        expected.settle(gradual.held);
        expect();
      }
      check(steps);
      seen.slices++;
    };
    for (const [index, { batch, slices, most }] of history.entries()) {
      const waited = gradual.held.length;
      const steps = gradual.apply(batch, index + 1);
      expected.note(batch, gradual.held);
      expect();
      check(steps);
      if (gradual.held.length > waited) seen.held++;
      else if (waited > 0) seen.ahead++;
      assert.ok(gradual.revision === index + 1 || gradual.held.length > 0);
      for (let count = 0; count < slices && gradual.isBusy; count++) slice(most);
    }
    for (let count = 0; gradual.isBusy; count++) {
      assert.ok(count < 1000, 'it comes to no end');
      slice(1);
    }
    assert.equal(gradual.revision, history.length);
    replay(plan, compiler.merge());
    assert.deepEqual(plan, { ...compiler.plan, addresses: new Map(compiler.plan.addresses) });
    const fresh = sound(place);
    fresh.apply(worldEvents(worldOf(history.flatMap(({ batch }) => batch))));
    assert.deepEqual(withoutNumbers(compiler.plan), withoutNumbers(fresh.plan));
  });
}

/** Believes that everybody whom a selector matches is known already: a policy does not wait for them. */
class Hasty extends Compiler {
  override foresee(events: readonly WorldEvent[]): ReturnType<Compiler['foresee']> {
    const foreseen = super.foresee(events);
    return foreseen && { ...foreseen, waiting: new Waiting() };
  }
}

const hasty: Make = ({ ipBlockPods, isLocal }) => new Hasty({ semantics: { ipBlockPods }, isLocal });

test('at each slice, with other changes in between, every verdict is that before or after the change', (context) => {
  const seen: Seen = { slices: 0, between: 0, held: 0, ahead: 0 };
  holds(context, oldOrNew(sound, seen), 120);
  context.diagnostic(JSON.stringify(seen));
  for (const [what, count] of Object.entries(seen)) assert.ok(count > 0, `${what}: ${count}`);
  fails(oldOrNew(hasty, seen), 1000);
});

/** Pod `number` of ten of the shop; the last one is here, and `few` are labelled so. */
function pod(number: number): WorldEvent {
  const address = parseAddress(`10.0.0.${number}`);
  assert.ok(address);
  const name = `pod-${number}`;
  const labels: Pod['labels'] = number <= 3 ? { few: 'yes' } : {};
  const fixed = { namespace: 'shop', ports: [], hostNetwork: false, finished: false };
  const workload = { kind: 'Pod', namespace: 'shop', name };
  const key = podKey('shop', name);
  const value = { ...fixed, workload, key, name, labels, node: number > 9 ? 'here' : 'there', addresses: [address] };
  return { kind: 'pod', key, value };
}

/** Isolates every pod of the shop, but from those labelled `few`. */
function fromFew(): WorldEvent {
  const key = policyKey('networkpolicy', 'shop', 'few');
  const source = {
    dialect: 'k',
    kind: 'NetworkPolicy',
    namespace: 'shop',
    name: 'few',
    path: '',
    file: null,
    line: null,
  };
  const shop = { kind: 'named', name: 'shop' } as const;
  const few = { requirements: [{ op: 'Exists', key: 'few' }] } as const;
  const peers = { kind: 'these', peers: [{ kind: 'pods', namespaces: shop, pods: few }] } as const;
  const value: Policy = {
    ...{ key, tier: DEFAULT_TIER, order: 'few', source, isolates: { egress: false, ingress: true }, egress: [] },
    subject: { namespaces: shop, pods: EVERYTHING },
    ingress: [{ id: 'few/0' as RuleId, action: 'allow', peers, ports: { kind: 'any' }, source }],
  };
  return { kind: 'policy', key, value };
}

/** Ten pods, and a policy that waits for three of them. */
function waiting(): { readonly compiler: Compiler; readonly gradual: GradualCompiler } {
  const compiler = new Compiler({ semantics: { ipBlockPods: true }, isLocal: (one) => one.node === 'here' });
  const gradual = new GradualCompiler(compiler, 2);
  gradual.apply(
    Array.from({ length: 10 }, (_, index) => pod(index + 1)),
    1,
  );
  gradual.apply([fromFew()], 2);
  assert.deepEqual([gradual.isBusy, gradual.revision], [true, 1]);
  return { compiler, gradual };
}

function finish(gradual: GradualCompiler): void {
  while (gradual.isBusy) gradual.advance(1);
}

function endpoints({ plan }: Compiler): string[] {
  return [...plan.endpoints.keys()];
}

test('a pod that comes after a policy that selects it does not start before it', () => {
  const { compiler, gradual } = waiting();
  gradual.apply([pod(11)], 3);
  gradual.advance(1);
  assert.deepEqual([endpoints(compiler), gradual.revision], [['10.0.0.10'], 1]);
  finish(gradual);
  assert.deepEqual([endpoints(compiler), gradual.revision], [['10.0.0.10', '10.0.0.11'], 3]);
});

test('what is in force is told up to the first change that waits', () => {
  const { gradual } = waiting();
  gradual.apply([pod(9)], 3);
  assert.equal(gradual.revision, 1);
  finish(gradual);
  assert.equal(gradual.revision, 3);
});

test('a policy that goes while it waits leaves nothing, wherever it was', () => {
  for (const slices of [0, 1, 2, 3]) {
    const { compiler, gradual } = waiting();
    for (let count = 0; count < slices; count++) gradual.advance(1);
    gradual.apply([{ ...fromFew(), value: null } as WorldEvent], 3);
    assert.equal(gradual.revision, 3);
    finish(gradual);
    compiler.merge();
    const fresh = new Compiler({ semantics: { ipBlockPods: true }, isLocal: (one) => one.node === 'here' });
    fresh.apply(Array.from({ length: 10 }, (_, index) => pod(index + 1)));
    assert.deepEqual(withoutNumbers(compiler.plan), withoutNumbers(fresh.plan));
  }
});

test('a new list says again what waits: of the change that it does not name nothing is left', () => {
  const { compiler, gradual } = waiting();
  assert.ok([...gradual.known()].some((event) => event.kind === 'policy' && event.value === null));
  gradual.note([]);
  gradual.apply([], 3);
  assert.deepEqual([gradual.isBusy, gradual.revision, compiler.plan.layers.size], [false, 3, 0]);
});

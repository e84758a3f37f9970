// A change that waits while its selectors are introduced: at each moment every flow has the verdict of the state before
// or after it, whatever else changes meanwhile; in the end, that of a fresh build.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { judge } from '#datapath/reference/verdict.ts';
import { push } from '#identity/collect.ts';
import { Waiting } from '#identity/waiting.ts';
import { type AddressKey, parseAddress } from '#net/address.ts';
import { TCP } from '#net/protocol.ts';
import { evaluate } from '#policy/evaluate.ts';
import { DEFAULT_TIER, type Policy, policyKey, type Rule, type RuleId } from '#policy/model.ts';
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
import { danglingPointer, inMaps, withoutNumbers } from '#test/support/plan-check.ts';
import { fails, holds } from '#test/support/property.ts';
import { applyStep, emptyPlan, type MutablePlan } from './apply.ts';
import { Compiler } from './compiler.ts';
import { GradualCompiler, type Work } from './gradual.ts';
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
type Seen = { slices: number; between: number; held: number; ahead: number; behind: number } & Record<Work, number>;

function nameOf(event: WorldEvent): string {
  return `${event.kind} ${'key' in event ? event.key : event.name}`;
}

/** Forms that things had since the one that is in force, by their names. */
type Forms = Map<string, WorldEvent[]>;

/** What is in force, what waits, and what is in force for some peers alone. */
class Expected {
  readonly #inForce = new Map<string, WorldEvent>();
  readonly #waiting: Forms = new Map();
  readonly #behind: Forms = new Map();
  /** What was in force of things that changed while others were behind. */
  readonly #before = new Map<string, WorldEvent>();

  note(events: readonly WorldEvent[], gradual: GradualCompiler): void {
    for (const event of events) {
      const name = nameOf(event);
      const waits = this.#waiting.has(name) || gradual.held.flat().some((one) => nameOf(one) === name);
      if (waits) push(this.#waiting, name, event);
      else this.#release(name, [event], gradual);
    }
    this.settle(gradual);
  }

  /** What no longer waits is in force in its last form, once nothing of it is behind. */
  settle(gradual: GradualCompiler): void {
    const waits = new Set(gradual.held.flat().map(nameOf));
    for (const [name, forms] of this.#waiting) {
      if (waits.has(name)) continue;
      this.#waiting.delete(name);
      this.#release(name, forms, gradual);
    }
    if (gradual.behind.length > 0) return;
    for (const [name, forms] of this.#behind) for (const form of forms) this.#inForce.set(name, form);
    this.#behind.clear();
    this.#before.clear();
  }

  #release(name: string, forms: readonly WorldEvent[], { behind }: GradualCompiler): void {
    const isBehind = this.#behind.has(name) || behind.flat().some((one) => nameOf(one) === name);
    // What a policy allowed before it was in force as a whole may be what is behind.
    for (const form of forms) {
      if (isBehind) push(this.#behind, name, form);
      else {
        if (behind.length > 0 && !this.#before.has(name)) {
          this.#before.set(name, this.#inForce.get(name) ?? { ...form, value: null });
        }
        this.#inForce.set(name, form);
      }
    }
  }

  /**
   * The worlds whose denials may be seen besides: where a class is behind, it says no to whom both policies before said no,
   * though the later one is gone by now. None of these changes is told to be in force yet.
   */
  *closedWorlds(held: readonly (readonly WorldEvent[])[]) {
    let earlier: WorldEvent[][] = [[]];
    for (const form of this.#before.values()) earlier = earlier.flatMap((list) => [list, [...list, form]]);
    for (const list of earlier) if (list.length > 0) yield* this.worlds(held, list);
  }

  /**
   * The worlds whose verdicts may be seen: with each form of what is behind, without the first that waits, with it, and
   * with its one policy as it was.
   */
  *worlds(held: readonly (readonly WorldEvent[])[], earlier: readonly WorldEvent[] = []) {
    let lists: WorldEvent[][] = [[...this.#inForce.values(), ...earlier]];
    for (const forms of this.#behind.values()) {
      lists = lists.flatMap((list) => [list, ...forms.map((form) => [...list, form])]);
    }
    const [first = []] = held;
    for (const list of lists) {
      yield worldOf(list);
      if (first.length > 0) yield worldOf([...list, ...first]);
      for (const event of first)
        for (const form of this.#waiting.get(nameOf(event)) ?? []) yield worldOf([...list, form]);
    }
  }
}

/** Verdicts of one flow in each world that may be seen; in the first nothing of what is on its way is in force. */
type Verdicts = {
  readonly count: number;
  readonly at: (world: number) => FlowVerdict;
  readonly closed: () => Iterable<FlowVerdict>;
};

function checkFlow(found: FlowVerdict, expected: Verdicts, seen: Seen): void {
  for (const leg of ['egress', 'ingress'] as const) {
    if (found[leg].reason === 'not-endpoint') continue;
    if (expected.count === 1) {
      assert.deepEqual(found[leg], expected.at(0)[leg]);
      continue;
    }
    let world = 0;
    while (world < expected.count && expected.at(world)[leg].verdict !== found[leg].verdict) world++;
    if (world === expected.count && found[leg].verdict !== 'allow') {
      if ([...expected.closed()].some((one) => one[leg].verdict === found[leg].verdict)) continue;
    }
    assert.ok(world < expected.count, `${leg}: ${found[leg].verdict}, neither before nor after`);
    if (world > 0) seen.between++;
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
    const gradual = new GradualCompiler(compiler, 0, 1);
    const expected = new Expected();
    const plan = emptyPlan();
    let allowed: Verdicts[] = [];
    const expect = (): void => {
      const worlds = [...expected.worlds(gradual.held)];
      allowed = sampled.map((flow) => {
        const known: FlowVerdict[] = [];
        const at = (index: number): FlowVerdict => {
          known[index] ??= evaluate(worlds[index] ?? assert.fail(), flow, place);
          return known[index];
        };
        const closed = () => [...expected.closedWorlds(gradual.held)].map((world) => evaluate(world, flow, place));
        return { count: worlds.length, at, closed };
      });
    };
    const check = (steps: readonly Step[]): void => {
      replay(plan, steps);
      for (const [index, flow] of sampled.entries()) {
        checkFlow(judge(compiler.plan, flow), allowed[index] ?? assert.fail(), seen);
      }
    };
    const slice = (most: number): void => {
      const waited = [gradual.held.length, gradual.behind.length];
      seen[gradual.next]++;
      const steps = gradual.advance(most);
      if (gradual.behind.length > 0) seen.behind++;
      if (gradual.held.length !== waited[0] || gradual.behind.length !== waited[1]) {
        expected.settle(gradual);
        expect();
      }
      check(steps);
      seen.slices++;
    };
    for (const [index, { batch, slices, most }] of history.entries()) {
      const waited = gradual.held.length;
      const steps = gradual.apply(batch, index + 1);
      expected.note(batch, gradual);
      expect();
      check(steps);
      if (gradual.held.length > waited) seen.held++;
      else if (waited > 0) seen.ahead++;
      assert.ok(gradual.revision === index + 1 || gradual.held.length + gradual.behind.length > 0);
      for (let count = 0; count < slices && gradual.isBusy; count++) slice(most);
    }
    for (let count = 0; gradual.isBusy; count++) {
      assert.ok(count < 1000, 'it comes to no end');
      slice(1);
    }
    assert.equal(gradual.revision, history.length);
    replay(plan, compiler.merge());
    assert.deepEqual(plan, inMaps(compiler.plan));
    const fresh = sound(place);
    fresh.apply(worldEvents(worldOf(history.flatMap(({ batch }) => batch))));
    assert.deepEqual(withoutNumbers(compiler.plan), withoutNumbers(fresh.plan));
  });
}

/** Believes that everybody whom a selector matches is known already: a policy does not wait for them. */
class Hasty extends Compiler {
  override foresee(...asked: Parameters<Compiler['foresee']>): ReturnType<Compiler['foresee']> {
    const foreseen = super.foresee(...asked);
    return foreseen && { ...foreseen, waiting: new Waiting() };
  }
}

const hasty: Make = ({ ipBlockPods, isLocal }) => new Hasty({ semantics: { ipBlockPods }, isLocal });

test('at each slice, with other changes in between, every verdict is that before or after the change', (context) => {
  const works = { classes: 0, selectors: 0, search: 0, moves: 0, twins: 0 };
  const seen: Seen = { slices: 0, between: 0, held: 0, ahead: 0, behind: 0, ...works };
  holds(context, oldOrNew(sound, seen), 120);
  context.diagnostic(JSON.stringify(seen));
  // Of ten addresses there are never so many twins that they are made one.
  for (const [what, count] of Object.entries(seen)) assert.ok(count > 0 || what === 'twins', `${what}: ${count}`);
  fails(oldOrNew(hasty, seen), 1000);
});

/** Pod `number` of ten of the shop; the last one is here, and `few` are labelled so. */
function pod(
  number: number,
  labels: Pod['labels'] = number <= 3 ? { few: 'yes', old: 'yes' } : {},
): WorldEvent & { kind: 'pod' } {
  const address = parseAddress(`10.0.0.${number}`);
  assert.ok(address);
  const name = `pod-${number}`;
  const fixed = { namespace: 'shop', ports: [], hostNetwork: false, finished: false };
  const workload = { kind: 'Pod', namespace: 'shop', name };
  const key = podKey('shop', name);
  const value = { ...fixed, workload, key, name, labels, node: number > 9 ? 'here' : 'there', addresses: [address] };
  return { kind: 'pod', key, value };
}

type SimpleRule = Pick<Rule, 'action'> & { readonly ports?: Rule['ports']; readonly from: string | null };

/** Isolates every pod of the shop. `from`: a label that peers have; null: whoever it is. */
function policy(name: string, ...rules: readonly SimpleRule[]): WorldEvent & { readonly kind: 'policy' } {
  const key = policyKey('networkpolicy', 'shop', name);
  const source = { dialect: 'k', kind: 'NetworkPolicy', namespace: 'shop', name, path: '', file: null, line: null };
  const shop = { kind: 'named', name: 'shop' } as const;
  const peersOf = (label: string): Rule['peers'] => {
    return {
      kind: 'these',
      peers: [{ kind: 'pods', namespaces: shop, pods: { requirements: [{ op: 'Exists', key: label }] } }],
    };
  };
  const ingress = rules.map(({ action, from, ports = { kind: 'any' } }, index): Rule => {
    const peers: Rule['peers'] = from === null ? { kind: 'any' } : peersOf(from);
    return { id: `${name}/${index}` as RuleId, action, peers, ports, source };
  });
  const value: Policy = {
    ...{
      key,
      tier: DEFAULT_TIER,
      order: name,
      source,
      isolates: { egress: false, ingress: true },
      egress: [],
      ingress,
    },
    subject: { namespaces: shop, pods: EVERYTHING },
  };
  return { kind: 'policy', key, value };
}

/** Isolates every pod of the shop, but from those labelled `few`. */
function fromFew(ports: Rule['ports'] = { kind: 'any' }): WorldEvent {
  return policy('few', { action: 'allow', from: 'few', ports });
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

/** Made, but without an address yet. */
function nobody(index: number): WorldEvent & { readonly value: Pod } {
  const event = pod(index);
  assert.ok(event.kind === 'pod' && event.value !== null);
  return { ...event, value: { ...event.value, addresses: [] } };
}

test('pods that are nobody and were nobody change nothing, and their revision is in force', () => {
  const { compiler, gradual } = waiting();
  finish(gradual);
  const before = inMaps(compiler.plan);
  const gone = { kind: 'pod', key: nobody(77).value.key, value: null } as const;
  assert.deepEqual([gradual.apply([nobody(77)], 3), gradual.apply([gone], 4)], [[], []]);
  assert.deepEqual([gradual.revision, inMaps(compiler.plan)], [4, before]);
});

test('one that was somebody, here or a moment ago in the same batch, is not left behind', () => {
  const { compiler, gradual } = waiting();
  finish(gradual);
  gradual.apply([pod(11), nobody(11)], 3);
  assert.deepEqual(endpoints(compiler), ['10.0.0.10']);
  gradual.apply([pod(11)], 4);
  assert.deepEqual(endpoints(compiler), ['10.0.0.10', '10.0.0.11']);
  gradual.apply([nobody(11)], 5);
  assert.deepEqual(endpoints(compiler), ['10.0.0.10']);
});

test('a list that was noted comes into force with a batch of nobody', () => {
  const compiler = new Compiler({ semantics: { ipBlockPods: false }, isLocal: () => true });
  const gradual = new GradualCompiler(compiler);
  gradual.note([pod(11)]);
  gradual.apply([nobody(77)], 1);
  assert.deepEqual(endpoints(compiler), ['10.0.0.11']);
  gradual.note([pod(12)]);
  gradual.apply([nobody(77)], 2);
  assert.deepEqual(endpoints(compiler), ['10.0.0.11', '10.0.0.12']);
});

test('who is allowed by a selector that is on its way is not denied by a policy with many new ones', () => {
  const { compiler, gradual } = waiting();
  // Together they bring more selectors than are introduced early, the second form alone fewer.
  const first = policy('many', { action: 'allow', from: 'one' });
  const labels = ['few', 'two', 'three', 'four', 'five'];
  const second = policy('many', ...labels.map((from) => ({ action: 'allow' as const, from })));
  const verdict = (number: number): string => {
    const [from, to] = [number, 10].map((one) => pod(one).value?.addresses[0]);
    assert.ok(from && to);
    return judge(compiler.plan, { from, to, protocol: TCP, port: 80 }).ingress.verdict;
  };
  gradual.apply([first, second], 3);
  for (; gradual.isBusy; gradual.advance(1)) assert.equal(verdict(1), 'allow');
  assert.deepEqual([verdict(1), verdict(5)], ['allow', 'deny']);
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

/** Ten pods, and policies that are in force; of a change the class of those labelled `few` is behind. */
function behind(
  before: readonly WorldEvent[] = [fromFew()],
  change: WorldEvent = fromFew({ kind: 'these', ports: [] }),
): { readonly compiler: Compiler; readonly gradual: GradualCompiler } {
  const compiler = new Compiler({ semantics: { ipBlockPods: true }, isLocal: (one) => one.node === 'here' });
  const gradual = new GradualCompiler(compiler, 0);
  const pods = Array.from({ length: 10 }, (_, index) => pod(index + 1));
  gradual.apply(pods, 1);
  gradual.apply(before, 2);
  finish(gradual);
  const steps = gradual.apply([change], 3);
  assert.ok(!steps.some(({ kind }) => kind === 'class'));
  assert.deepEqual([gradual.isBusy, gradual.behind.length, gradual.revision], [true, 1, 2]);
  return { compiler, gradual };
}

test('selectors that nothing uses go from one identity after the other, and nothing waits for them', () => {
  const { compiler, gradual } = behind([fromFew(), policy('old', { action: 'allow', from: 'old' })]);
  finish(gradual);
  gradual.apply([{ ...fromFew(), value: null } as WorldEvent, { ...policy('old'), value: null } as WorldEvent], 4);
  while (gradual.behind.length > 0) gradual.advance(1);
  assert.equal(gradual.next, 'selectors');
  assert.deepEqual([gradual.isBusy, gradual.revision], [true, 4]);
  finish(gradual);
  assert.equal(compiler.isBurying, false);
});

test('twins are found and made one some at a time, whatever changes meanwhile', () => {
  const make = (): Compiler =>
    new Compiler({ semantics: { ipBlockPods: true }, isLocal: (one) => one.node === 'here' });
  const compiler = make();
  const gradual = new GradualCompiler(compiler, 0, 1);
  const numbers = Array.from({ length: 40 }, (_, index) => index + 1);
  const label = (number: number, also = {}): Pod['labels'] => ({ [`label-${number}`]: 'yes', ...also });
  const all = numbers.map((number) => pod(number, label(number)));
  const stays = fromFew();
  gradual.apply([...all, stays], 1);
  const wide = policy('wide', ...numbers.map((number) => ({ action: 'allow', from: `label-${number}` }) as const));
  gradual.apply([wide], 2);
  finish(gradual);
  assert.ok(compiler.plan.identities.size >= 40);
  gradual.apply([{ ...wide, value: null }], 3);
  const works = new Set<Work>();
  for (let turn = 0; gradual.isBusy; turn++) {
    assert.ok(turn < 1000, 'it comes to no end');
    const work = gradual.next;
    works.add(work);
    // From the end: those at the beginning have moved already.
    const number = 40 - (turn % 40);
    const changed = pod(number, label(number, turn % 3 === 0 ? { few: 'yes' } : {}));
    if (work === 'search' || work === 'twins') {
      gradual.apply([changed], turn + 4);
      all[number - 1] = changed;
    }
    gradual.advance(1);
  }
  for (const work of ['selectors', 'search', 'twins'] as const) assert.ok(works.has(work), [...works].join());
  const fresh = make();
  fresh.apply([...all, stays]);
  compiler.merge();
  assert.deepEqual(withoutNumbers(compiler.plan), withoutNumbers(fresh.plan));
});

test('those of policies that come and go before they are gone do not become ever more', () => {
  const compiler = new Compiler({ semantics: { ipBlockPods: true }, isLocal: (one) => one.node === 'here' });
  compiler.apply(Array.from({ length: 10 }, (_, index) => pod(index + 1, { [`label-${index}`]: 'yes' })));
  const states = Array.from({ length: 30 }, (_, turn) => {
    const one = policy('restless', { action: 'allow', from: `label-${turn % 10}` });
    compiler.apply([one], { most: 0 });
    compiler.apply([{ ...one, value: null }], { most: 0 });
    return compiler.isBurying;
  });
  assert.ok(states.includes(true) && states.filter((isBurying) => !isBurying).length >= 2, states.join());
});

test('open flows are judged again once no class is behind', () => {
  const { compiler, gradual } = behind();
  const steps = gradual.advance(10);
  const set = compiler.plan.endpoints.get('10.0.0.10' as AddressKey)?.ingress;
  const last = steps.at(-1);
  assert.ok(steps.some(({ kind }) => kind === 'class'));
  assert.ok(last?.kind === 'epoch' && set !== undefined && last.sets.includes(set), JSON.stringify(steps));
  assert.deepEqual([gradual.isBusy, gradual.revision], [false, 3]);
});

test('a pod that starts meets no class that is behind', () => {
  const { gradual } = behind();
  const kinds = gradual.apply([pod(11)], 4).map(({ kind }) => kind);
  assert.ok(kinds.includes('class') && kinds.indexOf('class') < kinds.indexOf('endpoint'), kinds.join());
  assert.deepEqual([gradual.behind.length, gradual.revision], [0, 4]);
});

const TO_443: Rule['ports'] = { kind: 'these', ports: [{ kind: 'range', protocol: TCP, first: 443, last: 443 }] };

function verdictOf({ plan }: Compiler, from: WorldEvent & { kind: 'pod' }): string {
  const [source] = from.value?.addresses ?? [];
  const [target] = pod(10).value?.addresses ?? [];
  assert.ok(source && target);
  return judge(plan, { from: source, to: target, protocol: TCP, port: 80 }).ingress.verdict;
}

test('a rule for any peer that comes meets no class that is behind', () => {
  const known = policy('known', { action: 'allow', from: 'few', ports: TO_443 });
  const { compiler, gradual } = behind([policy('few'), known], policy('few', { action: 'deny', from: 'few' }));
  gradual.apply([policy('later', { action: 'allow', from: null })], 4);
  assert.deepEqual([verdictOf(compiler, pod(1)), verdictOf(compiler, pod(4))], ['deny', 'allow']);
});

test('nor where it says to those peers what others said before: their class is not what the rules before made', () => {
  const known = policy('known', { action: 'allow', from: 'few', ports: TO_443 });
  const { compiler, gradual } = behind([policy('few'), known], policy('few', { action: 'deny', from: 'few' }));
  const again = { action: 'allow', from: 'few', ports: TO_443 } as const;
  gradual.apply([policy('later', { action: 'allow', from: null }, again)], 4);
  assert.deepEqual([verdictOf(compiler, pod(1)), verdictOf(compiler, pod(4))], ['deny', 'allow']);
});

test('who lacks the selector of a policy that went does not come to a class that still knows it', () => {
  const stays = policy('stays', { action: 'allow', from: 'few', ports: TO_443 });
  const goes = policy('goes', { action: 'allow', from: 'old' });
  const { compiler, gradual } = behind([stays, goes], { ...goes, value: null });
  const newcomer = pod(9, { few: 'yes' });
  gradual.apply([newcomer], 4);
  assert.deepEqual([verdictOf(compiler, newcomer), verdictOf(compiler, pod(1))], ['deny', 'allow']);
  finish(gradual);
  assert.deepEqual([verdictOf(compiler, newcomer), verdictOf(compiler, pod(1))], ['deny', 'deny']);
});

// Writes a Plan and notes what was touched, so that a batch of changes becomes the fewest steps, in the safe order.
import { type Address, type AddressKey, parseAddress } from '#net/address.ts';
import { type Cidr, type CidrKey, formatCidr } from '#net/cidr.ts';
import type { PodKey } from '#policy/world.ts';
import { emptyPlan, type MutablePlan, type WritableMap } from './apply.ts';
import { ByIdentity } from './by-identity.ts';
import type {
  Identity,
  IdentityNumber,
  LayerNumber,
  Plan,
  PlanEndpoint,
  PolicySet,
  PortTable,
  Prefix,
  RuleInfo,
  RuleNumber,
  SetNumber,
  Step,
  TableNumber,
} from './plan.ts';
import { sameValue } from './same.ts';
import { inSafeOrder } from './step-order.ts';

/** Keys written since the last flush, each with the value it had before. */
type Touched<Key, Value> = Map<Key, Value | undefined>;

/** Of a Plan what is kept here. */
type Written = Omit<MutablePlan, 'addresses'>;

/** Takes a part of many steps. */
export type Write = (steps: readonly Step[]) => void;

const NOBODY = -1;
const PART = 4096;
/** What packets are judged by once it is there, and what stands in the order after addresses. */
const LATE: ReadonlySet<Step['kind']> = new Set(['node', 'endpoint', 'epoch']);

type BaseOnly = { readonly base: TableNumber | null };

export class Recorder {
  readonly #plan: Written = emptyPlan();
  readonly #view: Plan;
  readonly #rules: Touched<RuleNumber, RuleInfo> = new Map();
  readonly #tables: Touched<TableNumber, PortTable> = new Map();
  readonly #layers: Touched<LayerNumber, BaseOnly> = new Map();
  readonly #classes = new Map<LayerNumber, Touched<IdentityNumber, TableNumber>>();
  #newClasses: Step[] = [];
  /** What of those changes in place: after addresses are who they will be, before endpoints turn to it. */
  readonly #late = { bases: new Set<LayerNumber>(), classes: new Map<LayerNumber, Set<IdentityNumber>>() };
  readonly #sets: Touched<SetNumber, PolicySet> = new Map();
  readonly #identities: Touched<IdentityNumber, Identity> = new Map();
  /** Of each: the identity, or NOBODY, the family and its words. As steps, those of a first list are six times as large. */
  #addresses: number[] = [];
  readonly #prefixes: Touched<CidrKey, Prefix> = new Map();
  readonly #prefixCidrs = new Map<CidrKey, Cidr>();
  readonly #endpoints: Touched<AddressKey, PlanEndpoint> = new Map();
  readonly #nodes: Touched<string, readonly Address[]> = new Map();

  /** `addresses`: what addresses are, as it is after each flush. */
  constructor(addresses: Plan['addresses']) {
    this.#view = { ...this.#plan, addresses };
  }

  get plan(): Plan {
    return this.#view;
  }

  rule(number: RuleNumber, value: RuleInfo | null): void {
    write(this.#plan.rules, this.#rules, number, value);
  }

  table(number: TableNumber, value: PortTable | null): void {
    write(this.#plan.tables, this.#tables, number, value);
  }

  layer(number: LayerNumber, base: TableNumber | null): void {
    note(this.#plan.layers, this.#layers, number);
    this.#plan.layers.set(number, { base, classes: new ByIdentity() });
  }

  /** Gives a layer that is in use another base. */
  baseInPlace(number: LayerNumber, base: TableNumber | null): void {
    note(this.#plan.layers, this.#layers, number);
    this.#plan.layers.set(number, { base, classes: this.#plan.layers.get(number)?.classes ?? new ByIdentity() });
    this.#late.bases.add(number);
  }

  /** Takes a layer away, with its classes. */
  removeLayer(number: LayerNumber): void {
    for (const identity of this.#plan.layers.get(number)?.classes.keys() ?? []) this.class(number, identity, null);
    note(this.#plan.layers, this.#layers, number);
    this.#plan.layers.delete(number);
  }

  /** The first class of an identity in a layer. It is the only one until the next flush. */
  newClass(layer: LayerNumber, identity: IdentityNumber, value: TableNumber): void {
    this.#plan.layers.get(layer)?.classes.set(identity, value);
    this.#newClasses.push({ kind: 'class', layer, identity, value });
  }

  class(layer: LayerNumber, identity: IdentityNumber, value: TableNumber | null): void {
    const classes = this.#plan.layers.get(layer)?.classes;
    if (classes === undefined) return;
    const touched = this.#classes.get(layer) ?? new Map();
    this.#classes.set(layer, touched);
    write(classes, touched, identity, value);
  }

  /** The same of an identity that packets under way have, in a layer that is in use. */
  classInPlace(layer: LayerNumber, identity: IdentityNumber, value: TableNumber | null): void {
    this.class(layer, identity, value);
    this.#late.classes.set(layer, (this.#late.classes.get(layer) ?? new Set()).add(identity));
  }

  set(number: SetNumber, value: PolicySet | null): void {
    write(this.#plan.sets, this.#sets, number, value);
  }

  identity(number: IdentityNumber, value: Identity | null): void {
    write(this.#plan.identities, this.#identities, number, value);
  }

  /** At most once for each address between two flushes, and only where it has another identity than before. */
  address(address: Address, value: IdentityNumber | null): void {
    this.#addresses.push(value ?? NOBODY, address.family);
    for (const word of address.words) this.#addresses.push(word | 0);
  }

  prefix(cidr: Cidr, identity: IdentityNumber | null): void {
    const key = formatCidr(cidr);
    this.#prefixCidrs.set(key, cidr);
    write(this.#plan.prefixes, this.#prefixes, key, identity === null ? null : { cidr, identity });
  }

  endpoint(key: AddressKey, value: PlanEndpoint | null): void {
    write(this.#plan.endpoints, this.#endpoints, key, value);
  }

  /** Takes an endpoint away, unless another pod has the address by now. */
  dropEndpoint(key: AddressKey, pod: PodKey): void {
    if (this.#plan.endpoints.get(key)?.pod === pod) this.endpoint(key, null);
  }

  node(name: string, value: readonly Address[] | null): void {
    write(this.#plan.nodes, this.#nodes, name, value);
  }

  /**
   * The steps since the last flush, in the order that is safe for packets in flight. Where there is a `write`, it is given
   * all that comes before the first endpoint, node or removal, in parts, and the rest is returned.
   */
  flush(write: Write | null = null): Step[] {
    if (write === null) return this.#take([...this.#takeAddresses()]);
    const rest = this.#take([]);
    const late = rest.findIndex((step) => LATE.has(step.kind) || ('value' in step && step.value === null));
    write(rest.splice(0, late < 0 ? rest.length : late));
    let part: Step[] = [];
    for (const step of this.#takeAddresses()) {
      part.push(step);
      if (part.length < PART) continue;
      write(part);
      part = [];
    }
    write(part);
    return rest;
  }

  #takeAddresses(): Generator<Step> {
    const packed = this.#addresses;
    this.#addresses = [];
    return addressSteps(packed);
  }

  /** `steps`: those of addresses. */
  #take(steps: Step[]): Step[] {
    const inPlace: Step[] = [];
    const add = (step: Step): unknown => steps.push(step);
    const plan = this.#plan;
    each(this.#rules, plan.rules, (rule, value) => add({ kind: 'rule', rule, value }));
    each(this.#tables, plan.tables, (table, value) => add({ kind: 'table', table, value }));
    each(this.#layers, plan.layers, (layer, value) => {
      const list = this.#late.bases.has(layer) ? inPlace : steps;
      list.push({ kind: 'layer', layer, value: value && { base: value.base } });
    });
    for (const step of this.#newClasses) add(step);
    this.#newClasses = [];
    for (const [layer, touched] of this.#classes) {
      const classes = plan.layers.get(layer)?.classes ?? new Map();
      const late = this.#late.classes.get(layer);
      each(touched, classes, (identity, value) => {
        const list = late?.has(identity) ? inPlace : steps;
        list.push({ kind: 'class', layer, identity, value });
      });
    }
    this.#classes.clear();
    this.#late.bases.clear();
    this.#late.classes.clear();
    each(this.#identities, plan.identities, (identity, value) => add({ kind: 'identity', identity, value }));
    each(this.#sets, plan.sets, (set, value) => add({ kind: 'set', set, value }));
    each(this.#prefixes, plan.prefixes, (key, value) => {
      const cidr = this.#prefixCidrs.get(key);
      if (cidr !== undefined) add({ kind: 'prefix', cidr, value: value?.identity ?? null });
    });
    this.#prefixCidrs.clear();
    each(this.#nodes, plan.nodes, (node, value) => add({ kind: 'node', node, value }));
    each(this.#endpoints, plan.endpoints, (key, value) => add({ kind: 'endpoint', address: addressOf(key), value }));
    return inSafeOrder(steps, inPlace);
  }
}

/** The steps in which addresses get their identities, as they are asked for. */
function* addressSteps(packed: readonly number[]): Generator<Step> {
  for (let at = 0; at < packed.length; ) {
    const [value = NOBODY, family] = [packed[at], packed[at + 1]];
    const word = (index: number): number => (packed[at + 2 + index] ?? 0) >>> 0;
    const address: Address =
      family === 4 ? { family, words: [word(0)] } : { family: 6, words: [word(0), word(1), word(2), word(3)] };
    yield { kind: 'address', address, value: value === NOBODY ? null : value };
    at += family === 4 ? 3 : 6;
  }
}

function write<Key, Value>(
  map: WritableMap<Key, Value>,
  touched: Touched<Key, Value>,
  key: Key,
  value: Value | null,
): void {
  note(map, touched, key);
  if (value === null) map.delete(key);
  else map.set(key, value);
}

function note<Key, Value>(map: ReadonlyMap<Key, Value>, touched: Touched<Key, Value>, key: Key): void {
  if (!touched.has(key)) touched.set(key, map.get(key));
}

/** Calls back with each key whose value is another one than before, and forgets what was touched. */
function each<Key, Value, Now extends Value>(
  touched: Touched<Key, Value>,
  map: ReadonlyMap<Key, Now>,
  visit: (key: Key, value: Now | null) => void,
): void {
  // An iterator would make two objects for each of them.
  touched.forEach((before, key) => {
    const now = map.get(key);
    if (now !== undefined) {
      if (!sameValue(before, now)) visit(key, now);
    } else if (before !== undefined) visit(key, null);
  });
  touched.clear();
}

function addressOf(key: AddressKey): Address {
  const address = parseAddress(key);
  if (address === null) throw new Error(`not an address: ${key}`);
  return address;
}

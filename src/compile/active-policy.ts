// A policy that selects some local pod: its rule numbers, the atoms it uses, its blocks of parts.
import type { Direction, Policy, Rule, Source } from '#policy/model.ts';
import type { NamedPort } from '#policy/world.ts';
import type { Allowance } from './allowance.ts';
import type { PolicyEntry } from './groups.ts';
import type { Place } from './order-list.ts';
import { type Head, headOf, isBase, namedPorts, nextSerial, type Part, partsOf } from './parts.ts';
import type { Isolating, RuleEntry, Rules } from './rules.ts';
import { sameValue } from './same.ts';
import { SortedList } from './sorted-list.ts';

/** In the one order of rules: a policy, or the end of the tier at a position. It keeps no rules: denies keep it for long. */
export type Item =
  | { readonly kind: 'policy'; readonly position: number; readonly order: string; readonly entry: PolicyEntry }
  | { readonly kind: 'end'; readonly position: number };

/** The rules of one policy in one direction, for one resolution of the subject's named ports. Immutable. */
export type Block = {
  readonly serial: number;
  readonly place: Place<Item>;
  readonly parts: readonly Part[];
  /** Those of the parts that are for any peer. */
  readonly base: readonly Part[];
  readonly rules: readonly RuleEntry[];
};

/** The list of no blocks. */
export const NO_BLOCKS: SortedList<Block> = SortedList.of<Block>(keyOf);

type Side = {
  readonly heads: readonly Head[];
  readonly rules: readonly RuleEntry[];
  /** Named ports that ingress rules mention, as `name protocol`. */
  readonly named: ReadonlySet<string>;
  readonly blocks: Map<string, Block>;
  /** The one block where no named port is mentioned. */
  plain: Block | null;
};

type Sides = { readonly egress: Side; readonly ingress: Side };

const NO_PORTS: readonly NamedPort[] = [];

export class ActivePolicy {
  readonly #rules: Rules;
  readonly #atoms: Allowance;
  #policy: Policy;
  #sides: Sides;
  #place: Place<Item>;
  #naming: Isolating;
  readonly #serial = nextSerial();

  constructor(policy: Policy, place: Place<Item>, uses: { readonly rules: Rules; readonly atoms: Allowance }) {
    this.#rules = uses.rules;
    this.#atoms = uses.atoms;
    this.#policy = policy;
    this.#place = place;
    this.#naming = this.#named();
    this.#sides = { egress: this.#side('egress', null), ingress: this.#side('ingress', null) };
  }

  get policy(): Policy {
    return this.#policy;
  }

  get allowance(): Allowance {
    return this.#atoms;
  }

  /** What a default deny says of the policy: the same object while that, and the policy's place, are the same. */
  get naming(): Isolating {
    return this.#naming;
  }

  /** Where its first rule stands in the order. */
  get place(): Place<Item> {
    return this.#place;
  }

  /** Takes a new form of the same policy. A direction whose meaning is the same keeps its blocks. */
  update(policy: Policy): void {
    const before = this.#policy;
    this.#policy = policy;
    if (!sameValue([before.tier, before.source], [policy.tier, policy.source])) this.#naming = this.#named();
    const { egress, ingress } = this.#sides;
    this.#sides = { egress: this.#side('egress', egress), ingress: this.#side('ingress', ingress) };
  }

  /** The rule that asks first for more than there is; null where none does. */
  get lacking(): Source | null {
    for (const { heads, rules } of [this.#sides.egress, this.#sides.ingress]) {
      const at = heads.findIndex(({ lacking }) => lacking);
      if (at >= 0) return rules[at]?.info.source ?? this.#policy.source;
    }
    return null;
  }

  get lackingRules(): number {
    const { egress, ingress } = this.#sides;
    return [...egress.heads, ...ingress.heads].filter(({ lacking }) => lacking).length;
  }

  /** Asks again for what there was too little of. */
  askAgain(): void {
    for (const direction of ['egress', 'ingress'] as const) {
      const side = this.#sides[direction];
      if (!side.heads.some(({ lacking }) => lacking)) continue;
      const heads = this.#headsOf(direction, side.rules);
      this.#releaseHeads(side);
      this.#sides = { ...this.#sides, [direction]: { ...side, heads, blocks: new Map(), plain: null } };
    }
  }

  #headsOf(direction: Direction, entries: readonly RuleEntry[]): Head[] {
    const side = { direction, atoms: this.#atoms };
    return this.#policy[direction].map((rule, index) => headOf(rule, entries[index]?.number ?? 0, side));
  }

  /** The policy has another place in the order, or its place another key: its parts are made again. */
  moveTo(place: Place<Item>): void {
    if (place !== this.#place) {
      this.#place = place;
      this.#naming = this.#named();
    }
    for (const side of [this.#sides.egress, this.#sides.ingress]) {
      side.blocks.clear();
      side.plain = null;
    }
  }

  /** True where the policy has something to say on a direction. */
  speaksOf(direction: Direction): boolean {
    return this.#policy.isolates[direction] || this.#policy[direction].length > 0;
  }

  /** The block for a subject, by the named ports that it has. */
  block(direction: Direction, ports: readonly NamedPort[]): Block {
    const side = this.#sides[direction];
    if (side.plain !== null) return side.plain;
    const own =
      side.named.size === 0 ? NO_PORTS : ports.filter((port) => side.named.has(`${port.name} ${port.protocol}`));
    const key = own.length === 0 ? '' : resolutionKey(own);
    const found = side.blocks.get(key);
    if (found !== undefined) return found;
    const parts = side.heads.flatMap((head, index) => partsOf(head, this.#place.key + index, own));
    const block = { serial: nextSerial(), place: this.#place, parts, base: parts.filter(isBase), rules: side.rules };
    side.blocks.set(key, block);
    if (side.named.size === 0) side.plain = block;
    return block;
  }

  /** The policy is active no longer: its atoms are used once less. */
  release(): void {
    this.#releaseHeads(this.#sides.egress);
    this.#releaseHeads(this.#sides.ingress);
  }

  #side(direction: Direction, before: Side | null): Side {
    const rules = this.#policy[direction];
    if (before !== null && meanTheSame(rules, before.heads)) {
      for (const [index, entry] of before.rules.entries()) {
        const rule = rules[index];
        if (rule !== undefined) this.#rules.update(entry, rule);
      }
      return before;
    }
    const entries = rules.map((rule) => this.#rules.make(rule, direction));
    const heads = this.#headsOf(direction, entries);
    const named = new Set(rules.flatMap(namedPorts).map((port) => `${port.name} ${port.protocol}`));
    if (before !== null) this.#releaseHeads(before);
    return {
      heads,
      rules: entries,
      named: direction === 'ingress' ? named : new Set(),
      blocks: new Map(),
      plain: null,
    };
  }

  #named(): Isolating {
    const { key, tier, source } = this.#policy;
    return { serial: this.#serial, place: this.#place, key, tier, source };
  }

  #releaseHeads(side: Side): void {
    for (const head of side.heads) {
      for (const atom of head.atoms ?? []) this.#atoms.release(atom);
      for (const port of head.ports) this.#atoms.release(port.atom);
    }
  }
}

/** True where rules differ in nothing but where they are written. */
function meanTheSame(rules: readonly Rule[], heads: readonly Head[]): boolean {
  const meaning = ({ id, action, peers, ports }: Rule): unknown => [id, action, peers, ports];
  return (
    rules.length === heads.length &&
    heads.every(({ rule }, index) => {
      const now = rules[index];
      return now !== undefined && sameValue(meaning(rule), meaning(now));
    })
  );
}

/** What sorts the rules of policies: the key of their policy's place. */
export function keyOf({ place }: { readonly place: { readonly key: number } }): number {
  return place.key;
}

function resolutionKey(ports: readonly NamedPort[]): string {
  const texts = ports.map((port) => JSON.stringify([port.name, port.protocol, port.port]));
  return [...new Set(texts)].sort().join();
}

// What the peers of one namespace's rules may ask for: address blocks, and looks at labels. Both cost the whole node,
// whomever the rules are for. A peer that goes beyond matches nobody (in a rule other than allow: everybody).
import type { AtomNumber, AtomSpec } from '#identity/atoms.ts';
import type { LabelSelector } from '#policy/selector.ts';

/** What is counted, once for each peer of rules that differs. */
export type Asked = {
  /** Prefixes of address blocks and of their exceptions; `EVERYWHERE` more for peers that have some. */
  readonly blocks: number;
  /**
   * Values that selectors ask for, times their requirements; selectors that name none are looked at for every kind of pod, and
   * count as `WIDE`.
   */
  readonly labels: number;
};

/** What one namespace may ask for, and what all of them together. */
export type AskLimits = { readonly namespace: Asked; readonly node: Asked };

/** A quarter of it is one namespace's; half of the kernel's prefixes is left to the cluster's own blocks. */
export const NODE_ASKS: AskLimits = {
  namespace: { blocks: 1 << 17, labels: 1 << 20 },
  node: { blocks: 1 << 19, labels: 1 << 22 },
};

/** As many kinds of pods are taken to be there. */
const WIDE = 1024;
/** A selector for so few values is found by them, and is not counted. */
const NARROW = 8;
/** Blocks that a peer with exceptions counts as, besides its own. */
const EVERYWHERE = 128;

/** Where atoms are counted. */
export type Atoms = { readonly acquire: (spec: AtomSpec) => AtomNumber; readonly release: (atom: AtomNumber) => void };

type Use = { readonly cost: Partial<Asked>; uses: number };

/** What all namespaces ask for together. */
export class Allowances {
  readonly atoms: Atoms;
  readonly limits: AskLimits;
  readonly #byNamespace = new Map<string, Allowance>();
  readonly taken = { blocks: 0, labels: 0 };
  #gave = false;

  constructor(atoms: Atoms, limits: AskLimits) {
    this.atoms = atoms;
    this.limits = limits;
  }

  /** What a namespace asks for, for one more that asks in its name; `leave` ends that. */
  join(namespace: string): Allowance {
    const found = this.#byNamespace.get(namespace) ?? new Allowance(namespace, this);
    this.#byNamespace.set(namespace, found);
    found.members++;
    return found;
  }

  leave(allowance: Allowance): void {
    allowance.members--;
    if (allowance.members === 0) this.#byNamespace.delete(allowance.namespace);
  }

  /** What of this would be more than the node has; null where there is room. */
  short(cost: Partial<Asked>): keyof Asked | null {
    return shortOf(this.taken, cost, this.limits.node);
  }

  add(cost: Partial<Asked>, sign: 1 | -1): void {
    if (sign < 0) this.#gave = true;
    addTo(this.taken, cost, sign);
  }

  /** Namespaces that lack something and may have room for it: who has it gave something back since the last call. */
  takeReleased(): ReadonlySet<Allowance> {
    const gave = this.#gave;
    this.#gave = false;
    return new Set(
      [...this.#byNamespace.values()].filter((one) => one.takeReleased() || (gave && one.short?.of === 'node')),
    );
  }
}

/** What did not suffice, and whose it is. */
export type Short = { readonly what: keyof Asked; readonly of: 'namespace' | 'node'; readonly limit: number };

/** What one namespace asks for. */
export class Allowance {
  readonly namespace: string;
  readonly #all: Allowances;
  readonly #uses = new Map<AtomNumber, Use>();
  readonly #taken = { blocks: 0, labels: 0 };
  /** The last time that there was too little. */
  short: Short | null = null;
  /** How many ask in its name. */
  members = 0;
  #gave = false;

  constructor(namespace: string, all: Allowances) {
    this.namespace = namespace;
    this.#all = all;
  }

  /** One more use of an atom; null where it asks for more than there is. */
  acquire(spec: AtomSpec): AtomNumber | null {
    const atom = this.#all.atoms.acquire(spec);
    const use = this.#uses.get(atom);
    if (use !== undefined) {
      use.uses++;
      return atom;
    }
    const cost = costOf(spec);
    if (cost === null) return atom;
    const short = this.#shortOf(cost);
    if (short !== null) {
      this.short = short;
      this.#all.atoms.release(atom);
      return null;
    }
    this.#uses.set(atom, { cost, uses: 1 });
    this.#add(cost, 1);
    return atom;
  }

  release(atom: AtomNumber): void {
    this.#all.atoms.release(atom);
    const use = this.#uses.get(atom);
    if (use === undefined) return;
    use.uses--;
    if (use.uses > 0) return;
    this.#uses.delete(atom);
    this.#add(use.cost, -1);
  }

  /** True where something was given back since the last call. */
  takeReleased(): boolean {
    const gave = this.#gave;
    this.#gave = false;
    return gave;
  }

  #shortOf(cost: Partial<Asked>): Short | null {
    const { namespace, node } = this.#all.limits;
    const own = shortOf(this.#taken, cost, namespace);
    if (own !== null) return { what: own, of: 'namespace', limit: namespace[own] };
    const all = this.#all.short(cost);
    return all === null ? null : { what: all, of: 'node', limit: node[all] };
  }

  #add(cost: Partial<Asked>, sign: 1 | -1): void {
    if (sign < 0) this.#gave = true;
    addTo(this.#taken, cost, sign);
    this.#all.add(cost, sign);
  }
}

function shortOf(taken: Asked, { blocks = 0, labels = 0 }: Partial<Asked>, limits: Asked): keyof Asked | null {
  if (taken.blocks + blocks > limits.blocks) return 'blocks';
  return taken.labels + labels > limits.labels ? 'labels' : null;
}

function addTo(
  into: { -readonly [what in keyof Asked]: number },
  { blocks = 0, labels = 0 }: Partial<Asked>,
  sign: 1 | -1,
): void {
  into.blocks += sign * blocks;
  into.labels += sign * labels;
}

/** Null: not counted. */
function costOf(spec: AtomSpec): Partial<Asked> | null {
  if (spec.kind === 'port') return null;
  if (spec.kind === 'addresses') return { blocks: spec.includes.length + exceptsCost(spec.excepts.length) };
  const { namespaces, pods } = spec;
  const isForWhole = pods.requirements.length === 0 && namespaces.kind !== 'named';
  const selector = isForWhole ? namespaces.selector : pods;
  // Nothing else is found by the same key at the same place, so a pod that has it looks at this one alone.
  if ((isForWhole || namespaces.kind === 'named') && isKeyAlone(selector)) return null;
  const labels = widthOf(selector) * Math.max(1, selector.requirements.length);
  return labels <= NARROW ? null : { labels };
}

/** What holds everywhere but in some places holds in all blocks of the others: such peers multiply with each other. */
function exceptsCost(excepts: number): number {
  return excepts === 0 ? 0 : excepts + EVERYWHERE;
}

function isKeyAlone({ requirements }: LabelSelector): boolean {
  return requirements.length === 1 && requirements[0]?.op === 'Exists';
}

/** The least number of values that one of its requirements has: by those it is found (identity/selector-index.ts). */
function widthOf({ requirements }: LabelSelector): number {
  return requirements.reduce((least, one) => (one.op === 'In' ? Math.min(least, one.values.length) : least), WIDE);
}

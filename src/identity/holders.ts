// Which atoms hold of an address or a block, and who holds an atom.
import { NONE } from './addresses.ts';
import type { AtomTable } from './atom-table.ts';
import type { AddressAtom, Atom, AtomNumber } from './atoms.ts';
import type { Block } from './blocks.ts';
import { remember } from './collect.ts';
import type { Identities } from './identities.ts';
import type { Population } from './population.ts';
import type { Members, Search, WaitingPart } from './waiting.ts';

export type PartMembers = { readonly rows: number[]; readonly blocks: Block[] };

export type MembersByIdentity = Map<number, PartMembers>;

/** Who holds each atom, by the identity that they had when they were found. */
export type Held = Map<AtomNumber, MembersByIdentity>;

export class Holders {
  readonly #population: Population;
  readonly #atoms: AtomTable;
  readonly #identities: Identities;
  readonly #ipBlockPods: boolean;

  constructor(uses: {
    readonly population: Population;
    readonly atoms: AtomTable;
    readonly identities: Identities;
    readonly ipBlockPods: boolean;
  }) {
    this.#population = uses.population;
    this.#atoms = uses.atoms;
    this.#identities = uses.identities;
    this.#ipBlockPods = uses.ipBlockPods;
  }

  /** Who holds a new atom, by the identity that they have now; of a named port, who has each of its numbers. */
  held(atom: Atom): Held {
    const found: Held = new Map();
    const { places, look } = this.search(atom, found);
    look(0, places);
    return found;
  }

  /** How to find them out, place by place. */
  search(atom: Atom, found: Held): Omit<Search, 'done'> {
    const { number } = atom;
    const { pods } = this.#population;
    if (atom.kind === 'addresses') {
      return { places: 1, look: () => void found.set(number, this.byIdentity(this.#placed(atom))) };
    }
    if (atom.kind === 'port') {
      const numbersOf = this.#population.numbersOf(atom);
      const note = (pod: number): void => {
        for (const value of numbersOf(pod)) this.#notePod(partsFor(found, this.#atoms.resolve(atom, value)), pod);
      };
      return { places: pods.end, look: each(note) };
    }
    const parts = partsFor(found, number);
    if (atom.namespaces.kind === 'named') {
      const { name } = atom.namespaces;
      const look = (): void => {
        for (const pod of this.#population.selectedIn(name, atom)) this.#notePod(parts, pod);
      };
      return { places: 1, look };
    }
    // What is known of label sets is kept for one look alone: thousands of selectors may wait for theirs.
    const look: Search['look'] = (first, end) => {
      for (const pod of this.#population.selectedAmong(atom, first, end)) this.#notePod(parts, pod);
    };
    return { places: pods.end, look };
  }

  /** Notes the settled addresses that a pod owns. */
  #notePod(parts: MembersByIdentity, pod: number): void {
    const { pods, addresses } = this.#population;
    for (const row of pods.addresses(pod)) {
      const identity = addresses.identity.at(row);
      if (identity !== NONE && addresses.owner(row) === pod) partOf(parts, identity).rows.push(row);
    }
  }

  /** Settled addresses and blocks that an atom's addresses hold. */
  #placed(atom: AddressAtom): Members {
    const { addresses, blocks } = this.#population;
    const settled = addresses.nearly(atom.includes).filter((row) => addresses.identity.at(row) !== NONE);
    const rows = settled.filter((row) => this.#cidrAtoms(row).includes(atom.number));
    const inside = new Set(atom.includes.flatMap((cidr) => blocks.inside(cidr)));
    const held = [...inside].filter((block) => {
      return block.identity !== null && this.atomsOfBlock(block).atoms.includes(atom.number);
    });
    return { rows, blocks: held };
  }

  /** Of those who held an atom once, who holds it still, and has an identity that does not say so. */
  stillHeld(atom: Atom, number: AtomNumber, { rows, blocks }: Members): Members {
    const { addresses } = this.#population;
    const lacks = (identity: number): boolean => !this.#identities.at(identity).atoms.includes(number);
    if (!this.#atoms.isInUse(atom.number)) return { rows: [], blocks: [] };
    return {
      rows: rows.filter((row) => {
        const identity = addresses.identity.at(row);
        return identity !== NONE && lacks(identity) && this.#holds(atom, number, row);
      }),
      blocks: blocks.filter((block) => {
        const { identity } = block;
        return identity !== null && lacks(identity) && this.atomsOfBlock(block).atoms.includes(number);
      }),
    };
  }

  #holds(atom: Atom, number: AtomNumber, row: number): boolean {
    if (atom.kind === 'addresses') return this.#cidrAtoms(row).includes(number);
    const owner = this.#population.addresses.owner(row);
    if (owner === NONE) return false;
    return atom.kind === 'pods' ? this.#population.selects(atom, owner) : this.#atomsOfPod(owner).includes(number);
  }

  #atomsOfPod(pod: number): readonly AtomNumber[] {
    return this.#atoms.ofPod(
      this.#population.pods.namespaces.at(this.#population.pods.namespace(pod)),
      this.#population.pods.labelSets.at(this.#population.pods.labels(pod)),
      this.#population.pods.portSets.at(this.#population.pods.ports(pod)),
    );
  }

  #cidrAtoms(row: number): readonly AtomNumber[] {
    if (!this.#ipBlockPods && this.#population.addresses.owner(row) !== NONE) return [];
    return this.#population.blocks.at(this.#population.addresses.address(row)).atoms;
  }

  atomsOfBlock(block: Block): { readonly atoms: readonly AtomNumber[]; readonly unknown: boolean } {
    const place = this.#population.blocks.at(block.cidr.address, block.cidr.length);
    return place.unknown && !this.#ipBlockPods ? { atoms: [], unknown: true } : place;
  }

  /** The parts, each with whether it was most of its identity when it was found; that may be gone by now. */
  waitingParts(parts: MembersByIdentity): WaitingPart[] {
    return [...parts].map(([number, part]) => {
      const total = this.#identities.find(number)?.members ?? 0;
      return { ...part, whole: (part.rows.length + part.blocks.length) * 2 > total };
    });
  }

  byIdentity({ rows, blocks }: Members): MembersByIdentity {
    const parts: MembersByIdentity = new Map();
    for (const row of rows) partOf(parts, this.#population.addresses.identity.at(row)).rows.push(row);
    for (const block of blocks) partOf(parts, block.identity ?? NONE).blocks.push(block);
    return parts;
  }
}

/** The members of one identity. */
export function partOf(parts: MembersByIdentity, identity: number): PartMembers {
  return remember(parts, identity, () => ({ rows: [], blocks: [] }));
}

/** All members of the parts. */
export function membersOf(parts: MembersByIdentity): Members {
  const all = [...parts.values()];
  return { rows: all.flatMap(({ rows }) => rows), blocks: all.flatMap(({ blocks }) => blocks) };
}

function partsFor(found: Held, atom: AtomNumber): MembersByIdentity {
  return remember(found, atom, () => new Map());
}

/** Looks at one place after the other. */
function each(look: (place: number) => void): Search['look'] {
  return (first, end) => {
    for (let place = first; place < end; place++) look(place);
  };
}

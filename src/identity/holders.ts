// Which atoms hold of an address or a block, and who holds an atom.
import { NONE } from './addresses.ts';
import type { AtomTable } from './atom-table.ts';
import type { AddressAtom, Atom, AtomNumber } from './atoms.ts';
import type { Block } from './blocks.ts';
import { remember } from './collect.ts';
import type { Identities } from './identities.ts';
import type { Population } from './population.ts';
import type { Members, WaitingPart } from './waiting.ts';

export type PartMembers = { readonly rows: number[]; readonly blocks: Block[] };

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

  /** Who holds a new atom; of a named port, who has each of its numbers. */
  held(atom: Atom): { readonly number: AtomNumber; readonly members: Members }[] {
    const { number } = atom;
    if (atom.kind === 'addresses') return [{ number, members: this.#placed(atom) }];
    if (atom.kind === 'pods') {
      return [{ number, members: { rows: this.#rowsOf(this.#population.selectedBy(atom)), blocks: [] } }];
    }
    return [...this.#population.withPort(atom)].map(([value, pods]) => {
      return { number: this.#atoms.resolve(atom, value), members: { rows: this.#rowsOf(pods), blocks: [] } };
    });
  }

  /** Settled addresses that pods own. */
  #rowsOf(pods: readonly number[]): number[] {
    const rows: number[] = [];
    for (const pod of pods) {
      for (const row of this.#population.pods.addresses(pod)) {
        if (this.#population.addresses.identity.at(row) !== NONE && this.#population.addresses.owner(row) === pod)
          rows.push(row);
      }
    }
    return rows;
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

  /** Members by the identity that they have now. */
  partsOf(members: Members): WaitingPart[] {
    const parts = [...this.byIdentity(members)];
    return parts.map(([number, part]) => {
      return { ...part, whole: (part.rows.length + part.blocks.length) * 2 > this.#identities.at(number).members };
    });
  }

  byIdentity({ rows, blocks }: Members): Map<number, PartMembers> {
    const parts = new Map<number, PartMembers>();
    for (const row of rows) partOf(parts, this.#population.addresses.identity.at(row)).rows.push(row);
    for (const block of blocks) partOf(parts, block.identity ?? NONE).blocks.push(block);
    return parts;
  }
}

/** The members of one identity. */
export function partOf(parts: Map<number, PartMembers>, identity: number): PartMembers {
  return remember(parts, identity, () => ({ rows: [], blocks: [] }));
}

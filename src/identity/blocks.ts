// Address blocks: every boundary that an atom's addresses or a node's pod block draws, and which atoms hold inside each.
import { type Address, formatAddress } from '#net/address.ts';
import { type Cidr, type CidrKey, formatCidr, maskAddress } from '#net/cidr.ts';
import type { AddressAtom, AtomNumber } from './atoms.ts';
import { PrefixTree } from './prefix-tree.ts';

/** One prefix of the address space. `identity` is null until it has been given one. */
export type Block = {
  readonly cidr: Cidr;
  readonly key: CidrKey;
  /** Atoms that begin to hold here, and atoms that end to; inside, a longer prefix may say otherwise. */
  readonly includes: Set<AtomNumber>;
  readonly excepts: Set<AtomNumber>;
  /** How many nodes have it as a pod block. */
  podBlocks: number;
  /** The roots 0.0.0.0/0 and ::/0 stay whatever uses them. */
  readonly root: boolean;
  identity: number | null;
};

/** What holds in a place of the address space, as far as blocks tell. */
export type Place = { readonly atoms: readonly AtomNumber[]; readonly unknown: boolean };

/** Blocks of one length by masked address: of IPv4 by its number. */
type ByAddress = Map<number | string, Block>;

const NOWHERE: Place = { atoms: [], unknown: false };

const ROOT4: Cidr = { address: { family: 4, words: [0] }, length: 0 };
const ROOT6: Cidr = { address: { family: 6, words: [0, 0, 0, 0] }, length: 0 };
export const ROOTS: readonly Cidr[] = [ROOT4, ROOT6];

export class Blocks {
  readonly #byKey = new Map<CidrKey, Block>();
  /** Per family, the lengths in use, ascending, with their blocks by masked address. */
  readonly #byLength = { 4: new Map<number, ByAddress>(), 6: new Map<number, ByAddress>() };

  readonly #trees = { 4: new PrefixTree<Block>(ROOT4), 6: new PrefixTree<Block>(ROOT6) };

  constructor() {
    for (const cidr of ROOTS) this.#make(cidr, true);
  }

  values(): IterableIterator<Block> {
    return this.#byKey.values();
  }

  /** Draws the boundaries of an atom. Returns the blocks that are new. */
  addAtom(atom: AddressAtom): Block[] {
    const made: Block[] = [];
    for (const cidr of atom.includes) this.#use(cidr, made).includes.add(atom.number);
    for (const cidr of atom.excepts) this.#use(cidr, made).excepts.add(atom.number);
    return made;
  }

  /** Takes an atom's boundaries away. Returns the blocks that are gone. */
  removeAtom(atom: AddressAtom): Block[] {
    const gone: Block[] = [];
    for (const cidr of [...atom.includes, ...atom.excepts]) {
      const block = this.#byKey.get(formatCidr(cidr));
      if (block === undefined) continue;
      block.includes.delete(atom.number);
      block.excepts.delete(atom.number);
      if (this.#drop(block)) gone.push(block);
    }
    return gone;
  }

  /** A node has one more (or one less) pod block. Returns the block where that made or ended it. */
  countPodBlock(cidr: Cidr, change: 1 | -1): Block {
    const block = this.#use(cidr, []);
    block.podBlocks += change;
    this.#drop(block);
    return block;
  }

  has(block: Block): boolean {
    return this.#byKey.get(block.key) === block;
  }

  /** The blocks inside a CIDR, itself included. */
  inside(cidr: Cidr): Block[] {
    return this.#trees[cidr.address.family].inside(cidr);
  }

  /** What holds at an address, or in the part of a block that no longer block covers. */
  at(address: Address, length: number = address.words.length * 32): Place {
    const held = new Set<AtomNumber>();
    let unknown = false;
    for (const [blockLength, blocks] of this.#byLength[address.family]) {
      if (blockLength > length) break;
      const block = blocks.get(maskedKey(address, blockLength));
      if (block === undefined) continue;
      for (const atom of block.includes) held.add(atom);
      for (const atom of block.excepts) held.delete(atom);
      unknown ||= block.podBlocks > 0;
    }
    if (held.size === 0) return unknown ? { atoms: [], unknown } : NOWHERE;
    return { atoms: [...held], unknown };
  }

  /** The longest block that holds an address: what holds there holds of the address. */
  around(address: Address): Block {
    let found: Block | null = null;
    for (const [length, blocks] of this.#byLength[address.family]) {
      if (found !== null && length < found.cidr.length) continue;
      found = blocks.get(maskedKey(address, length)) ?? found;
    }
    if (found === null) throw new Error('the root blocks hold every address');
    return found;
  }

  #use(cidr: Cidr, made: Block[]): Block {
    const found = this.#byKey.get(formatCidr(cidr));
    if (found !== undefined) return found;
    const block = this.#make(cidr, false);
    made.push(block);
    return block;
  }

  #make(cidr: Cidr, root: boolean): Block {
    const key = formatCidr(cidr);
    const block: Block = { cidr, key, includes: new Set(), excepts: new Set(), podBlocks: 0, root, identity: null };
    this.#byKey.set(key, block);
    this.#trees[cidr.address.family].set(cidr, block);
    this.#ofLength(cidr).set(maskedKey(cidr.address, cidr.length), block);
    return block;
  }

  #ofLength({ address, length }: Cidr): ByAddress {
    const lengths = this.#byLength[address.family];
    const found = lengths.get(length);
    if (found !== undefined) return found;
    const made: ByAddress = new Map();
    const sorted = [...lengths, [length, made] as const].sort(([a], [b]) => a - b);
    this.#byLength[address.family] = new Map(sorted);
    return made;
  }

  /** Forgets a block that nothing uses. */
  #drop(block: Block): boolean {
    if (block.root || block.podBlocks > 0 || block.includes.size > 0 || block.excepts.size > 0) return false;
    this.#byKey.delete(block.key);
    this.#trees[block.cidr.address.family].delete(block.cidr);
    const lengths = this.#byLength[block.cidr.address.family];
    const blocks = lengths.get(block.cidr.length);
    blocks?.delete(maskedKey(block.cidr.address, block.cidr.length));
    if (blocks?.size === 0) lengths.delete(block.cidr.length);
    return true;
  }
}

function maskedKey(address: Address, length: number): number | string {
  if (address.family === 6) return formatAddress(maskAddress(address, length));
  return length === 0 ? 0 : (address.words[0] ?? 0) & (-1 << (32 - length));
}

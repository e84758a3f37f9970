// Values by prefix, so that what lies inside a block is found without a look at all the others.
import type { Address } from '#net/address.ts';
import { type Cidr, cidrCovers, maskAddress } from '#net/cidr.ts';

type Bit = 0 | 1;

/** A prefix that has a value, or where two ways part. What is below starts with it, and is longer. */
type TreeNode<Value> = { readonly cidr: Cidr; value: Value | null; readonly below: [Branch<Value>, Branch<Value>] };
type Branch<Value> = TreeNode<Value> | null;

/** Prefixes of one family. Its depth is bounded by the bits of an address. */
export class PrefixTree<Value extends object> {
  readonly #top: TreeNode<Value>;

  /** `everything` is the family's prefix of length 0. */
  constructor(everything: Cidr) {
    this.#top = { cidr: everything, value: null, below: [null, null] };
  }

  set(cidr: Cidr, value: Value): void {
    let at = this.#top;
    while (at.cidr.length < cidr.length) {
      const side = bitAt(cidr.address, at.cidr.length);
      const next = at.below[side];
      if (next !== null && cidrCovers(next.cidr, cidr)) {
        at = next;
        continue;
      }
      const made: TreeNode<Value> = { cidr, value, below: [null, null] };
      at.below[side] = next === null ? made : join(made, next);
      return;
    }
    at.value = value;
  }

  delete(cidr: Cidr): void {
    const way: TreeNode<Value>[] = [this.#top];
    for (let at = this.#top; at.cidr.length < cidr.length; ) {
      const next = at.below[bitAt(cidr.address, at.cidr.length)];
      if (next === null || !cidrCovers(next.cidr, cidr)) return;
      way.push(next);
      at = next;
    }
    const last = way.at(-1);
    if (last === undefined) return;
    last.value = null;
    for (let depth = way.length - 1; depth > 0; depth--) if (!shorten(way[depth - 1], way[depth])) return;
  }

  /** The values inside a prefix, its own included; the lower address first, of two with one address the shorter prefix. */
  inside(cidr: Cidr): Value[] {
    let at: Branch<Value> = this.#top;
    while (at !== null && at.cidr.length < cidr.length) at = at.below[bitAt(cidr.address, at.cidr.length)];
    if (at === null || !cidrCovers(cidr, at.cidr)) return [];
    const found: Value[] = [];
    const waiting = [at];
    for (let node = waiting.pop(); node !== undefined; node = waiting.pop()) {
      if (node.value !== null) found.push(node.value);
      for (const side of [1, 0] as const) if (node.below[side] !== null) waiting.push(node.below[side]);
    }
    return found;
  }
}

/** Two prefixes of which the one does not hold the other, or the first holds the second, below one node. */
function join<Value>(made: TreeNode<Value>, old: TreeNode<Value>): TreeNode<Value> {
  const length = Math.min(made.cidr.length, commonBits(made.cidr.address, old.cidr.address));
  const parent: TreeNode<Value> =
    length === made.cidr.length
      ? made
      : { cidr: { address: maskAddress(made.cidr.address, length), length }, value: null, below: [null, null] };
  parent.below[bitAt(old.cidr.address, length)] = old;
  if (parent !== made) parent.below[bitAt(made.cidr.address, length)] = made;
  return parent;
}

/** Takes a node without a value out of the way where no two ways part there. False where it stays. */
function shorten<Value>(parent: TreeNode<Value> | undefined, node: TreeNode<Value> | undefined): boolean {
  if (parent === undefined || node === undefined) return false;
  const [left, right] = node.below;
  if (node.value !== null || (left !== null && right !== null)) return false;
  parent.below[bitAt(node.cidr.address, parent.cidr.length)] = left ?? right;
  return true;
}

function bitAt(address: Address, index: number): Bit {
  const word = address.words[index >>> 5] ?? 0;
  return ((word >>> (31 - (index & 31))) & 1) === 1 ? 1 : 0;
}

/** How many leading bits two addresses have in common. */
function commonBits(a: Address, b: Address): number {
  let bits = 0;
  for (const [index, word] of a.words.entries()) {
    const same = Math.clz32(word ^ (b.words[index] ?? 0));
    bits += same;
    if (same < 32) break;
  }
  return bits;
}

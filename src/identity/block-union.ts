// The address blocks of one rule, exceptions and all, as one set of addresses: what a rule's peers say together is all
// that counts. 100 000 blocks of one rule, or 20 000 that overlap nearly everywhere, split the address space once.
import { type Cidr, cidrCovers } from '#net/cidr.ts';

/** A block with its exceptions. */
export type BlockPeer = { readonly cidr: Cidr; readonly except: readonly Cidr[] };

/** Where an address is in or out by the longest of these prefixes that holds it; out where none does. Canonical. */
export type AddressSet = { readonly includes: readonly Cidr[]; readonly excepts: readonly Cidr[] };

/** One prefix of one peer. */
type Edge = { readonly cidr: Cidr; readonly peer: number; readonly excepts: boolean };

/** The union of the blocks, each without its exceptions. */
export function unionOf(peers: readonly BlockPeer[]): AddressSet {
  const edges: Edge[] = [];
  for (const [peer, { cidr, except }] of peers.entries()) {
    edges.push({ cidr, peer, excepts: false });
    for (const hole of except) edges.push({ cidr: hole, peer, excepts: true });
  }
  edges.sort((a, b) => compareCidrs(a.cidr, b.cidr));
  const sweep = new Sweep(peers.length);
  for (const edge of edges) sweep.enter(edge);
  return sweep.end();
}

/** Walks prefixes from the outside in; the open ones hold each other. */
class Sweep {
  readonly #includes: Cidr[] = [];
  readonly #excepts: Cidr[] = [];
  /** Prefixes that hold the position, outermost first, with what they change; edges of one prefix are one entry. */
  readonly #open: { readonly cidr: Cidr; readonly edges: Edge[]; readonly outside: boolean }[] = [];
  readonly #holes: Int32Array;
  readonly #inBlock: Uint8Array;
  /** Peers that hold the position. */
  #holding = 0;

  constructor(peers: number) {
    this.#holes = new Int32Array(peers);
    this.#inBlock = new Uint8Array(peers);
  }

  enter(edge: Edge): void {
    const top = this.#open.at(-1);
    if (top === undefined || compareCidrs(top.cidr, edge.cidr) !== 0) {
      this.#note();
      this.#leaveUntil(edge.cidr);
      this.#open.push({ cidr: edge.cidr, edges: [], outside: this.#holding === 0 });
    }
    this.#open.at(-1)?.edges.push(edge);
    this.#change(edge, 1);
  }

  end(): AddressSet {
    this.#note();
    return { includes: this.#includes, excepts: this.#excepts };
  }

  /** The prefix entered last is complete: a boundary where it differs from what is around it. */
  #note(): void {
    const top = this.#open.at(-1);
    if (top === undefined || top.outside === (this.#holding === 0)) return;
    (top.outside ? this.#includes : this.#excepts).push(top.cidr);
  }

  #leaveUntil(next: Cidr): void {
    for (let top = this.#open.at(-1); top !== undefined && !cidrCovers(top.cidr, next); top = this.#open.at(-1)) {
      for (const edge of top.edges) this.#change(edge, -1);
      this.#open.pop();
    }
  }

  #change({ peer, excepts }: Edge, by: 1 | -1): void {
    const before = this.#holds(peer);
    if (excepts) this.#holes[peer] = (this.#holes[peer] ?? 0) + by;
    else this.#inBlock[peer] = by === 1 ? 1 : 0;
    this.#holding += this.#holds(peer) - before;
  }

  #holds(peer: number): 0 | 1 {
    return this.#inBlock[peer] === 1 && this.#holes[peer] === 0 ? 1 : 0;
  }
}

/** By family, then address, then length: a prefix comes before what is inside it. */
function compareCidrs(a: Cidr, b: Cidr): number {
  if (a.address.family !== b.address.family) return a.address.family - b.address.family;
  for (const [index, word] of a.address.words.entries()) {
    const other = b.address.words[index] ?? 0;
    if (word !== other) return word - other;
  }
  return a.length - b.length;
}

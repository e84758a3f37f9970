// Which blocks of other nodes get routes: none that would lead away what is somebody else's. Pure.
import type { Address } from '#net/address.ts';
import { type Cidr, cidrCovers, formatCidr, maskAddress } from '#net/cidr.ts';

/** Who may claim blocks; addresses of all of them are in nobody's block. */
type Claimant = { readonly name: string; readonly addresses: readonly Address[]; readonly podCidrs: readonly Cidr[] };

/**
 * Each node's blocks without those that overlap with an earlier node's or hold a node's address. `nodes`: the first has
 * its blocks in any case. `problems` gets a line for each that is left out.
 */
export function trustedBlocks(nodes: readonly Claimant[], problems: string[]): ReadonlyMap<string, readonly Cidr[]> {
  const addresses = new Addresses(nodes.flatMap((node) => node.addresses));
  const given = new Blocks();
  return new Map(
    nodes.map(({ name, podCidrs }, index) => {
      const good = podCidrs.filter((block) => {
        const rival = given.holderOf(block);
        const overlap = rival === null ? null : `it overlaps with a podCIDR of node ${rival}`;
        const why = overlap ?? (index > 0 && addresses.isAnyIn(block) ? 'a node has an address in it' : null);
        if (why === null) given.add(block, name);
        else problems.push(`podCIDR ${formatCidr(block)} of node ${name} gets no route: ${why}`);
        return why === null;
      });
      return [name, good] as const;
    }),
  );
}

/** Blocks that don't overlap, and whose they are: looked up by the prefixes of each length that there is. */
class Blocks {
  readonly #holders: Map<string, string> = new Map();
  readonly #all: [block: Cidr, holder: string][] = [];
  readonly #lengths: Readonly<Record<4 | 6, Set<number>>> = { 4: new Set(), 6: new Set() };

  add(block: Cidr, holder: string): void {
    this.#holders.set(keyOf(block.address, block.length), holder);
    this.#all.push([block, holder]);
    this.#lengths[block.address.family].add(block.length);
  }

  /** Whose block overlaps with this one. */
  holderOf(block: Cidr): string | null {
    let inner = false;
    for (const length of this.#lengths[block.address.family]) {
      if (length > block.length) inner = true;
      else {
        const holder = this.#holders.get(keyOf(block.address, length));
        if (holder !== undefined) return holder;
      }
    }
    // Blocks of one size are the rule, and then none lies inside this one.
    return inner ? (this.#all.find(([each]) => cidrCovers(block, each))?.[1] ?? null) : null;
  }
}

/** Addresses by the prefixes of each length that was asked for. */
class Addresses {
  readonly #all: readonly Address[];
  readonly #prefixes: Map<number, ReadonlySet<string>> = new Map();

  constructor(all: readonly Address[]) {
    this.#all = all;
  }

  isAnyIn({ address, length }: Cidr): boolean {
    let prefixes = this.#prefixes.get(length);
    if (prefixes === undefined) {
      prefixes = new Set(this.#all.map((each) => keyOf(each, length)));
      this.#prefixes.set(length, prefixes);
    }
    return prefixes.has(keyOf(address, length));
  }
}

function keyOf(address: Address, length: number): string {
  const { family, words } = maskAddress(address, length);
  return `${family} ${words.join(' ')} ${length}`;
}

// Addresses of nodes: this node's own, and others', of which the kernel must know that they are no pods.
import { type Address, type AddressKey, formatAddress } from '#net/address.ts';
import { NODE_OWNER } from './abi.gen.ts';
import { addressBytes, taggedBytes } from './bytes.ts';
import type { Sink } from './sink.ts';
import { addressTag } from './tag.ts';

/** Nodes that claim an address: usually one. */
type Claim = { readonly address: Address; readonly nodes: Set<string>; published: number };

/** Stands for this node, where it is not its Node that names the address. No Node has this name. */
const HERE = '';

export class Nodes {
  readonly #sink: Sink;
  readonly #own: string;
  readonly #addresses = new Map<string, readonly Address[]>();
  readonly #claims = new Map<AddressKey, Claim>();

  constructor(sink: Sink, own: string) {
    this.#sink = sink;
    this.#own = own;
  }

  /** The addresses of a node from now on; none = gone. */
  set(name: string, addresses: readonly Address[]): void {
    const before = this.#addresses.get(name) ?? [];
    if (addresses.length === 0) this.#addresses.delete(name);
    else this.#addresses.set(name, addresses);
    for (const address of addresses) this.#claim(address).nodes.add(name);
    const kept = new Set(addresses.map(formatAddress));
    for (const address of before) if (!kept.has(formatAddress(address))) this.#claim(address).nodes.delete(name);
    for (const address of [...addresses, ...before]) this.#publish(address);
    if (name === this.#own) this.#speakBy(addresses);
  }

  /** Addresses that this node speaks to its pods from, beside those of its Node: gateways on its bridges, for example. */
  setGateways(addresses: readonly Address[]): void {
    this.set(HERE, addresses);
  }

  /** This node's own, as its Node names them. */
  get own(): readonly Address[] {
    return this.#addresses.get(this.#own) ?? [];
  }

  get all(): readonly Address[] {
    return [...this.#claims.values()].map(({ address }) => address);
  }

  /** The first of each family is the one by which this node speaks for clients outside (decision 0042). */
  #speakBy(addresses: readonly Address[]): void {
    const bytes = (family: 4 | 6): DataView => {
      const first = addresses.find((each) => each.family === family);
      const view = new DataView(new ArrayBuffer(16));
      if (first !== undefined) new Uint8Array(view.buffer).set(addressBytes(first).subarray(0, 16));
      return view;
    };
    this.#sink.state('self4', bytes(4).getBigUint64(0, true));
    this.#sink.state('self6First', bytes(6).getBigUint64(0, true));
    this.#sink.state('self6Last', bytes(6).getBigUint64(8, true));
  }

  #claim(address: Address): Claim {
    const key = formatAddress(address);
    const claim = this.#claims.get(key) ?? { address, nodes: new Set<string>(), published: 0 };
    this.#claims.set(key, claim);
    return claim;
  }

  #publish(address: Address): void {
    const claim = this.#claim(address);
    const isOwn = claim.nodes.has(this.#own) || claim.nodes.has(HERE);
    const owner = isOwn ? NODE_OWNER.OWN : claim.nodes.size > 0 ? NODE_OWNER.OTHER : 0;
    if (owner === 0) {
      this.#claims.delete(formatAddress(address));
      this.#sink.remove('node_map', addressBytes(address));
    } else if (owner !== claim.published) {
      claim.published = owner;
      this.#sink.put('node_map', addressBytes(address), taggedBytes(owner, addressTag(address)));
    }
  }
}

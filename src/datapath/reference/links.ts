// Which interface an address belongs to. An address has one interface: the last that claimed it.

import type { EndpointLink } from '#datapath/port.ts';
import { type Address, type AddressKey, formatAddress } from '#net/address.ts';
import { sameBytes } from './bytes.ts';

export class Links {
  readonly #links = new Map<number, EndpointLink>();
  readonly #claims = new Map<AddressKey, EndpointLink>();

  get(interfaceIndex: number): EndpointLink | null {
    return this.#links.get(interfaceIndex) ?? null;
  }

  /** The interface that has the address. */
  ownerOf(address: Address): number | null {
    return this.#claims.get(formatAddress(address))?.interfaceIndex ?? null;
  }

  /** The addresses that an interface has and no later one has claimed. */
  addressesOf(interfaceIndex: number): readonly Address[] {
    const addresses = this.#links.get(interfaceIndex)?.addresses ?? [];
    return addresses.filter((address) => this.#claims.get(formatAddress(address))?.interfaceIndex === interfaceIndex);
  }

  /** Adds an interface; returns the addresses that are in another place now than before: their owner is another. */
  attach(link: EndpointLink): readonly Address[] {
    const moved = link.addresses.filter((address) => {
      const before = this.#claims.get(formatAddress(address));
      return before?.interfaceIndex !== link.interfaceIndex || !sameBytes(before.mac, link.mac);
    });
    this.detach(link.interfaceIndex);
    this.#links.set(link.interfaceIndex, link);
    for (const address of link.addresses) this.#claims.set(formatAddress(address), link);
    return moved;
  }

  /** Takes an interface away, and no address that is another's by now. */
  detach(interfaceIndex: number): void {
    for (const [key, link] of this.#claims) if (link.interfaceIndex === interfaceIndex) this.#claims.delete(key);
    this.#links.delete(interfaceIndex);
  }
}

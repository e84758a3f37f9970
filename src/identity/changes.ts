// What identities tell of their changes: moves of addresses and prefixes, and what came of them.
import type { Address } from '#net/address.ts';
import type { Cidr } from '#net/cidr.ts';
import type { AtomNumber } from './atoms.ts';
import type { IdentityEntry } from './identities.ts';
import type { Waiting } from './waiting.ts';

/** Where moves are written. */
export type IdentitySink = {
  readonly address: (address: Address, identity: number | null) => void;
  readonly prefix: (cidr: Cidr, identity: number | null) => void;
};

/** What a `settle` did to identities, apart from the moves. */
export type IdentityChanges = {
  readonly created: readonly IdentityEntry[];
  /** All members of an identity were found to hold an atom that rules may ask for already. */
  readonly gained: readonly { readonly identity: IdentityEntry; readonly atom: AtomNumber }[];
  /** Addresses that are not who they were: appeared, left, or are matched by other rules than before. */
  readonly peers: readonly Address[];
  /** True where a pod block came or went: what addresses without a pod are has changed. */
  readonly podBlocks: boolean;
};

/** How a `settle` goes about it. */
export type SettleOptions = {
  /** Those who wait and move now. */
  readonly waiting?: readonly Waiting[];
  readonly twins?: 'merge' | 'leave';
  /** Whether the addresses that are not who they were are told: a first list is of nobody else. Default: tell. */
  readonly peers?: 'tell' | 'leave';
};

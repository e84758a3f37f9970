// What the machine says of interfaces, and whether packets may skip the host's side of them.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { type Interface, readInterface, readInterfaces } from '#kernel/interfaces.ts';
import type { Address } from '#net/address.ts';

const PLAIN_QUEUES: readonly string[] = ['noop', 'noqueue', 'clsact'];

/** An interface as the datapath needs it. */
export type InterfaceFacts = {
  readonly index: number;
  readonly name: string;
  readonly mac: Uint8Array;
  readonly mtu: number;
  /** Index of the bridge that it is a port of; 0 for none. */
  readonly master: number;
  /** A veth with no bridge above it and the default queue: filters apart, nothing on it that a redirect would skip. */
  readonly plain: boolean;
  /** It has a clsact queue, on which filters may hang. */
  readonly clsact: boolean;
  /** Frames with an Ethernet header arrive there, and go to the host's stack next: no loopback, tunnel, bridge port or the like. */
  readonly frames: boolean;
};

export type AddressedInterface = InterfaceFacts & { readonly addresses: readonly Address[] };

/** The interface can't be found or read in this network namespace. */
export class InterfaceError extends Error {
  /** Everything could be read, and the interface is not there. */
  readonly gone: boolean;

  constructor(index: number | null, cause?: unknown) {
    const what = index === null ? 'the interfaces' : `interface ${index}`;
    super(`${what} can't be read in this network namespace`, { cause });
    this.name = 'InterfaceError';
    this.gone = index !== null;
  }
}

/** Facts of an interface of the namespace that this thread is in. Throws InterfaceError where there is none of this index. */
export function interfaceFacts(index: number): InterfaceFacts {
  const found = readInterface(index);
  if (found === null) throw new InterfaceError(index);
  return factsOf(found);
}

/** Facts of all of them, by index. */
export function allInterfaceFacts(): ReadonlyMap<number, AddressedInterface> {
  const all = readInterfaces();
  return new Map(all.map((each) => [each.index, { ...factsOf(each), addresses: each.addresses }]));
}

/** Families whose packets the node forwards where they come in by this interface. */
export function forwardedFamilies(name: string): ReadonlySet<4 | 6> {
  const isOn = (path: string): boolean => readFileSync(`/proc/sys/net/${path}/forwarding`, 'utf8').trim() === '1';
  try {
    // IPv6 has one switch for all: that of an interface says whether it is a router's.
    return new Set([
      ...(isOn(`ipv4/conf/${name}`) ? [4 as const] : []),
      ...(isOn('ipv6/conf/all') ? [6 as const] : []),
    ]);
  } catch (error) {
    // The interface has just gone, or the kernel has no IPv6.
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return new Set();
    throw error;
  }
}

/** Whether the node's packets may have to be encrypted (IPsec): the stack alone sees to that. */
export function hasTransformPolicies(): boolean {
  const counts = output('ip', ['xfrm', 'policy', 'count']).match(/\d+/g) ?? [];
  return counts.some((count) => count !== '0');
}

function factsOf({ index, name, mac, mtu, kind, master, ethernet, queues }: Interface): InterfaceFacts {
  return {
    ...{ index, name, mac, mtu, master },
    // A queue may be somebody's bandwidth limit. An interface that was never up has `noop`.
    plain: kind === 'veth' && master === 0 && queues.every((each) => each === '' || PLAIN_QUEUES.includes(each)),
    clsact: queues.includes('clsact'),
    frames: ethernet && master === 0 && !queues.includes('ingress'),
  };
}

function output(program: string, args: readonly string[]): string {
  try {
    return execFileSync(program, args, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      maxBuffer: 1 << 26,
      env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
    });
  } catch (cause) {
    throw new InterfaceError(null, cause);
  }
}

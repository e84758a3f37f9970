// What the machine says of interfaces (iproute2's JSON), and whether packets may skip the host's side of them.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** An interface as the datapath needs it. */
export type InterfaceFacts = {
  readonly index: number;
  readonly name: string;
  readonly mac: Uint8Array;
  readonly mtu: number;
  /** A veth with no bridge above it and the default queue: filters apart, nothing on it that a redirect would skip. */
  readonly plain: boolean;
  /** It has a clsact queue, on which filters may hang. */
  readonly clsact: boolean;
  /** Frames with an Ethernet header arrive there, and go to the host's stack next: no loopback, tunnel, bridge port or the like. */
  readonly frames: boolean;
  /** As text. */
  readonly addresses: readonly string[];
};

/** Reads facts of interfaces of the namespace that this thread is in. */
export type InterfaceReader = {
  /** Throws InterfaceError where there is none of this index. */
  one(index: number): InterfaceFacts;
  all(): readonly InterfaceFacts[];
};

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

type IpLink = {
  readonly ifindex: number;
  readonly ifname: string;
  readonly address?: string;
  readonly mtu: number;
  readonly master?: string;
  readonly qdisc?: string;
  readonly link_type?: string;
  readonly linkinfo?: { readonly info_kind?: string };
  readonly addr_info?: readonly { readonly local?: string }[];
};

type IpQdisc = { readonly dev: string; readonly kind: string };

/**
 * All interfaces are read at once and kept for `keepMs`: a node that starts attaches its pods one after the other, and
 * each look is two processes.
 */
export function interfaceReader(keepMs: number): InterfaceReader {
  let known: ReadonlyMap<number, InterfaceFacts> = new Map();
  let readAtMs = Number.NEGATIVE_INFINITY;
  const read = (index?: number): typeof known => {
    if (performance.now() - readAtMs > keepMs || (index !== undefined && !known.has(index))) {
      known = readInterfaces();
      readAtMs = performance.now();
    }
    return known;
  };
  return {
    one: (index) => {
      const facts = read(index).get(index);
      if (facts === undefined) throw new InterfaceError(index);
      return facts;
    },
    all: () => [...read().values()],
  };
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

function readInterfaces(): ReadonlyMap<number, InterfaceFacts> {
  const links = json<IpLink>('ip', ['-j', '-d', 'address', 'show']);
  const qdiscs = Map.groupBy(json<IpQdisc>('tc', ['-j', 'qdisc', 'show']), (qdisc) => qdisc.dev);
  return new Map(links.map((link) => [link.ifindex, factsOf(link, qdiscs.get(link.ifname) ?? [])]));
}

function factsOf(link: IpLink, qdiscs: readonly IpQdisc[]): InterfaceFacts {
  const veth = link.linkinfo?.info_kind === 'veth' && link.master === undefined;
  return {
    index: link.ifindex,
    name: link.ifname,
    mac: Uint8Array.from((link.address ?? '').split(':'), (octet) => Number.parseInt(octet, 16)),
    mtu: link.mtu,
    // A queue may be somebody's bandwidth limit.
    plain: veth && qdiscs.every(({ kind }) => kind === 'noqueue' || kind === 'clsact'),
    clsact: qdiscs.some(({ kind }) => kind === 'clsact'),
    frames: link.link_type === 'ether' && link.master === undefined && qdiscs.every(({ kind }) => kind !== 'ingress'),
    addresses: (link.addr_info ?? []).flatMap(({ local }) => local ?? []),
  };
}

function json<T>(program: string, args: readonly string[]): readonly T[] {
  const text = output(program, args);
  try {
    return text.trim() === '' ? [] : (JSON.parse(text) as readonly T[]);
  } catch (cause) {
    throw new InterfaceError(null, cause);
  }
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

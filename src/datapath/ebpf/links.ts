// What the machine says of an interface (iproute2's JSON), and whether packets may skip its host side.
import { execFileSync } from 'node:child_process';

/** An interface as the datapath needs it. */
export type InterfaceFacts = {
  readonly name: string;
  readonly mac: Uint8Array;
  readonly mtu: number;
  /** A veth with no bridge above it and the default queue: filters apart, nothing on it that a redirect would skip. */
  readonly plain: boolean;
  /** It has a clsact queue, on which filters may hang. */
  readonly clsact: boolean;
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
  readonly linkinfo?: { readonly info_kind?: string };
};

type IpQdisc = { readonly dev: string; readonly kind: string };

/**
 * Reads facts of interfaces of the namespace that this thread is in. All of them are read at once and kept for
 * `keepMs`: a node that starts attaches its pods one after the other, and each look is two processes.
 */
export function interfaceReader(keepMs: number): (index: number) => InterfaceFacts {
  let known: ReadonlyMap<number, InterfaceFacts> = new Map();
  let readAtMs = Number.NEGATIVE_INFINITY;
  return (index) => {
    if (performance.now() - readAtMs > keepMs || !known.has(index)) {
      known = readInterfaces();
      readAtMs = performance.now();
    }
    const facts = known.get(index);
    if (facts === undefined) throw new InterfaceError(index);
    return facts;
  };
}

function readInterfaces(): ReadonlyMap<number, InterfaceFacts> {
  const links = json<IpLink>('ip', ['-j', '-d', 'link', 'show']);
  const qdiscs = Map.groupBy(json<IpQdisc>('tc', ['-j', 'qdisc', 'show']), (qdisc) => qdisc.dev);
  return new Map(links.map((link) => [link.ifindex, factsOf(link, qdiscs.get(link.ifname) ?? [])]));
}

function factsOf(link: IpLink, qdiscs: readonly IpQdisc[]): InterfaceFacts {
  const veth = link.linkinfo?.info_kind === 'veth' && link.master === undefined;
  return {
    name: link.ifname,
    mac: Uint8Array.from((link.address ?? '').split(':'), (octet) => Number.parseInt(octet, 16)),
    mtu: link.mtu,
    // A queue may be somebody's bandwidth limit.
    plain: veth && qdiscs.every(({ kind }) => kind === 'noqueue' || kind === 'clsact'),
    clsact: qdiscs.some(({ kind }) => kind === 'clsact'),
  };
}

function json<T>(program: string, args: readonly string[]): readonly T[] {
  try {
    const path = `${process.env.PATH}:/usr/sbin:/sbin`;
    const text = execFileSync(program, args, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      maxBuffer: 1 << 26,
      env: { ...process.env, PATH: path },
    });
    return text.trim() === '' ? [] : (JSON.parse(text) as readonly T[]);
  } catch (cause) {
    throw new InterfaceError(null, cause);
  }
}

// What the machine says of an interface (iproute2's JSON), and whether packets may skip its host side.
import { execFileSync } from 'node:child_process';

/** An interface as the datapath needs it. */
export type InterfaceFacts = {
  readonly name: string;
  readonly mac: Uint8Array;
  readonly mtu: number;
  /** A veth with no bridge above it and the default queue: nothing on it that a redirect would skip. */
  readonly plain: boolean;
};

/** The interface can't be found or read in this network namespace. */
export class InterfaceError extends Error {
  constructor(index: number, cause?: unknown) {
    super(`interface ${index} can't be read in this network namespace`, { cause });
    this.name = 'InterfaceError';
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

/** Facts of one interface of the namespace that this thread is in. */
export function readInterface(index: number): InterfaceFacts {
  const link = listInterfaces().find((each) => each.ifindex === index);
  if (link === undefined) throw new InterfaceError(index);
  const qdiscs = json<{ readonly kind: string }>(index, 'tc', ['-j', 'qdisc', 'show', 'dev', link.ifname]);
  const veth = link.linkinfo?.info_kind === 'veth' && link.master === undefined;
  return {
    name: link.ifname,
    mac: Uint8Array.from((link.address ?? '').split(':'), (octet) => Number.parseInt(octet, 16)),
    mtu: link.mtu,
    // A clsact qdisc may carry somebody's filters; a queue may be somebody's bandwidth limit.
    plain: veth && qdiscs.every((qdisc) => qdisc.kind === 'noqueue'),
  };
}

function listInterfaces(): readonly IpLink[] {
  return json<IpLink>(0, 'ip', ['-j', '-d', 'link', 'show']);
}

function json<T>(index: number, program: string, args: readonly string[]): readonly T[] {
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
    throw new InterfaceError(index, cause);
  }
}

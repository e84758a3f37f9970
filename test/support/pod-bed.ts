// Pods for datapath tests: network namespaces joined by veths through a router namespace, which this process enters.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import type { EndpointLink } from '#datapath/port.ts';
import * as sockets from '#kernel/sockets.ts';
import { type Address, formatAddress, parseAddress } from '#net/address.ts';

/** One pod: its namespace, its host-side interface, its addresses. */
export type BedPod = {
  readonly name: string;
  readonly netns: number;
  readonly v4: Address;
  readonly v6: Address;
  readonly link: EndpointLink;
};

export function address(text: string): Address {
  const parsed = parseAddress(text);
  if (parsed === null) throw new Error(`not an address: ${text}`);
  return parsed;
}

const GATEWAY = '169.254.1.1';

/** A router and its pods. The node's own addresses are 192.0.2.1 and fd00::1. */
export class PodBed {
  readonly prefix: string;
  readonly pods: BedPod[] = [];
  readonly #router: string;
  readonly #namespaces: string[] = [];
  readonly #open = new Set<number>();

  constructor(name: string, count: number) {
    this.prefix = `moattest-${name}-${process.pid}`;
    this.#router = this.#namespace('router');
    sockets.enterNetns(`/run/netns/${this.#router}`);
    ip(['link set lo up', 'addr add 192.0.2.1/32 dev lo', 'addr add fd00::1/128 dev lo']);
    for (const path of ['ipv4/ip_forward', 'ipv6/conf/all/forwarding']) {
      writeFileSync(`/proc/sys/net/${path}`, '1');
    }
    for (let index = 1; index <= count; index++) {
      const pod = this.add(index);
      this.raise(pod);
      this.pods.push(pod);
    }
  }

  pod(index: number): BedPod {
    const pod = this.pods[index];
    if (pod === undefined) throw new Error(`no pod ${index}`);
    return pod;
  }

  /** Makes the pod with this number, its link down; `remove` takes it away again. */
  add(index: number): BedPod {
    return this.#pod(this.#router, index);
  }

  /** Takes a pod's link up, and tells the router where it is. */
  raise(pod: BedPod): void {
    const link = `h${pod.name.slice('pod'.length)}`;
    ip([
      `link set ${link} up`,
      `addr add fe80::1/64 dev ${link} nodad`,
      ...pod.link.addresses.map((each) => `route add ${formatAddress(each)} dev ${link}`),
    ]);
    // Until the kernel has noticed, on another thread's time, what the pod sends goes nowhere.
    if (!waitFor(() => this.#isUp(pod), 2000)) throw new Error(`${pod.name} has no carrier`);
  }

  #isUp(pod: BedPod): boolean {
    const args = ['-n', `${this.prefix}-${pod.name}`, '-j', 'link', 'show', 'eth0'];
    const [link] = JSON.parse(execFileSync('ip', args, { encoding: 'utf8' })) as { readonly operstate: string }[];
    return link?.operstate === 'UP';
  }

  /** Takes a pod away that `add` made, with its link. */
  remove(pod: BedPod): void {
    sockets.closeSocket(pod.netns);
    const name = `${this.prefix}-${pod.name}`;
    this.#namespaces.splice(this.#namespaces.indexOf(name), 1);
    ip([`link del h${pod.name.slice('pod'.length)}`]);
    execFileSync('ip', ['netns', 'del', name]);
  }

  /** Opens a socket inside a pod; it is closed with the bed, where it is not by `close`. */
  socket<T>(pod: BedPod, open: () => T): T {
    const made = sockets.inNetns(pod.netns, open);
    if (typeof made === 'number') this.#open.add(made);
    return made;
  }

  /** Closes a socket that `socket` opened: the bed forgets its number, which somebody else gets. */
  close(fd: number): void {
    this.#open.delete(fd);
    sockets.closeSocket(fd);
  }

  /** Runs a command inside a pod. */
  run(pod: BedPod, program: string, ...args: readonly string[]): string {
    const name = `${this.prefix}-${pod.name}`;
    return execFileSync('nsenter', [`--net=/run/netns/${name}`, program, ...args], { encoding: 'utf8' });
  }

  destroy(): void {
    for (const fd of this.#open) this.close(fd);
    for (const pod of this.pods) sockets.closeSocket(pod.netns);
    for (const name of this.#namespaces) execFileSync('ip', ['netns', 'del', name]);
  }

  #namespace(name: string): string {
    const full = `${this.prefix}-${name}`;
    execFileSync('ip', ['netns', 'add', full]);
    this.#namespaces.push(full);
    return full;
  }

  #pod(router: string, index: number): BedPod {
    const name = `pod${index}`;
    const netns = this.#namespace(name);
    const [v4, v6] = [`10.9.0.${index}`, `fd09::${index}`];
    ip([`link add h${index} type veth peer name eth0 netns ${netns}`]);
    ip([`addr add ${GATEWAY}/32 dev h${index}`]);
    ip(
      [
        'link set lo up',
        `addr add ${v4}/32 dev eth0`,
        `addr add ${v6}/128 dev eth0 nodad`,
        'link set eth0 up',
        `route add ${GATEWAY} dev eth0 scope link`,
        `route add default via ${GATEWAY} dev eth0`,
        'route add default via fe80::1 dev eth0',
      ],
      netns,
    );
    const fd = sockets.openNetns(`/run/netns/${netns}`);
    const mac = sockets.inNetns(fd, () => readMac('eth0'));
    const interfaceIndex = Number(indexOf(`h${index}`, router));
    const link = { interfaceIndex, mac, addresses: [address(v4), address(v6)] };
    return { name, netns: fd, v4: address(v4), v6: address(v6), link };
  }
}

function ip(commands: readonly string[], netns?: string): void {
  const place = netns === undefined ? [] : ['-n', netns];
  execFileSync('ip', [...place, '-force', '-batch', '-'], {
    input: `${commands.join('\n')}\n`,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
}

function indexOf(name: string, netns: string): number {
  const [link] = JSON.parse(execFileSync('ip', ['-n', netns, '-j', 'link', 'show', name], { encoding: 'utf8' }));
  return link.ifindex;
}

/** /proc/net follows the thread's namespace; /sys does not. */
function readMac(name: string): Uint8Array {
  const text = execFileSync('ip', ['-j', 'link', 'show', name], { encoding: 'utf8' });
  const [link] = JSON.parse(text);
  return Uint8Array.from(String(link.address).split(':'), (octet) => Number.parseInt(octet, 16));
}

/** True where a datagram from one pod arrives at another's port within `waitMs`. */
export function udpArrives(bed: PodBed, from: BedPod, to: BedPod, options: { family: 4 | 6; port: number }): boolean {
  const { family, port } = options;
  const target = family === 4 ? to.v4 : to.v6;
  const server = bed.socket(to, () => sockets.openSocket(family, 'datagram'));
  const client = bed.socket(from, () => sockets.openSocket(family, 'datagram'));
  try {
    sockets.bindSocket(server, target, port);
    sockets.sendSocket(client, Buffer.from('moat'), { address: target, port });
    return waitFor(() => sockets.receiveSocket(server, Buffer.alloc(64)).kind === 'done');
  } finally {
    bed.close(server);
    bed.close(client);
  }
}

/** Polls a condition for a short while: what passes arrives within a few milliseconds. */
export function waitFor(condition: () => boolean, waitMs = 150): boolean {
  const end = performance.now() + waitMs;
  while (performance.now() < end) {
    if (condition()) return true;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
  }
  return condition();
}

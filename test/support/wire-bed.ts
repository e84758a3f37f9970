// A node of pods and an outsider on its uplink, whose frames go over real veths; everybody is listened to below IP.
import { execFileSync } from 'node:child_process';
import { type EbpfDatapath, openDatapath, unpinDatapath } from '#datapath/ebpf/open.ts';
import type { OpenOptions } from '#datapath/ebpf/open-options.ts';
import { concat, type IpSpec } from '#datapath/packets.ts';
import { closeSocket, openNetns } from '#kernel/sockets.ts';
import type { Address } from '#net/address.ts';
import { address, type BedPod, PodBed, waitFor } from './pod-bed.ts';
import { type Checksums, Wire } from './wire.ts';

/** What an attack carries, so that it is known wherever it turns up; and what the control sent after it carries. */
export const MARK: Uint8Array = Buffer.from('attackatdawn');
const CONTROL: Uint8Array = Buffer.from('controlpacket');
/** Frames of one sender arrive in order; from the first to the last this long at most. */
const PATIENCE_MS = 2000;

/** The outsider's addresses, and the node's on that link. */
export const OUTSIDER: { readonly v4: Address; readonly v6: Address } = {
  v4: address('198.51.100.2'),
  v6: address('2001:db8::2'),
};
export const NODE: readonly Address[] = ['192.0.2.1', 'fd00::1', '198.51.100.1', '2001:db8::1'].map(address);

/** One end of a link: who sends there, and whom it sends to by MAC. */
export type Place = { readonly wire: Wire; readonly mac: Uint8Array; readonly next: Uint8Array };

export class WireBed {
  readonly bed: PodBed;
  readonly router: string;
  readonly outsider: Place;
  readonly #namespace: string;
  readonly #outside: number;
  readonly #home: number;
  readonly #checksums: Checksums;
  readonly #places: ReadonlyMap<BedPod, Place>;

  constructor(name: string, pods: number, checksums: Checksums = 'as-is') {
    this.bed = new PodBed(name, pods);
    this.router = `${this.bed.prefix}-router`;
    this.#namespace = `${this.bed.prefix}-outside`;
    ip(`netns add ${this.#namespace}`);
    batch(this.router, [
      `link add u1 type veth peer name eth0 netns ${this.#namespace}`,
      'addr add 198.51.100.1/24 dev u1',
      'addr add 2001:db8::1/64 dev u1 nodad',
      'link set u1 up',
    ]);
    batch(this.#namespace, [
      'addr add 198.51.100.2/24 dev eth0',
      'addr add 2001:db8::2/64 dev eth0 nodad',
      'link set lo up',
      'link set eth0 up',
      'route add default via 198.51.100.1',
      'route add default via 2001:db8::1',
    ]);
    this.#checksums = checksums;
    this.#home = openNetns(`/run/netns/${this.router}`);
    this.#outside = openNetns(`/run/netns/${this.#namespace}`);
    this.outsider = {
      wire: new Wire(this.#outside, 'eth0', checksums),
      mac: macOf(this.#namespace, 'eth0'),
      next: macOf(this.router, 'u1'),
    };
    this.#places = new Map(this.bed.pods.map((pod, index) => [pod, this.#place(pod, `h${index + 1}`, checksums)]));
  }

  pod(index: number): BedPod {
    return this.bed.pod(index);
  }

  /** A pod's own end of its veth. */
  at(pod: BedPod): Place {
    const found = this.#places.get(pod);
    if (found === undefined) throw new Error(`${pod.name} is of another bed`);
    return found;
  }

  /** The node's end of a pod's veth, below everything that the node does itself. */
  hostSide(pod: BedPod): Place {
    const host = `h${this.bed.pods.indexOf(pod) + 1}`;
    const mac = macOf(this.router, host);
    return { wire: new Wire(this.#home, host, this.#checksums), mac, next: pod.link.mac };
  }

  /** Runs a command in the node's namespace. */
  onNode(program: string, ...args: readonly string[]): string {
    return execFileSync('ip', ['netns', 'exec', this.router, program, ...args], { encoding: 'utf8' });
  }

  /** The payloads that arrived at a pod, each as often as it did, once `control` (sent last) has arrived, too. */
  arrivals(to: BedPod, control: () => void): readonly Uint8Array[] {
    const { wire } = this.at(to);
    const frames: Uint8Array[] = [];
    control();
    const isOver = (): boolean => {
      frames.push(...wire.received());
      return frames.some((frame) => holds(frame, CONTROL));
    };
    if (!waitFor(isOver, PATIENCE_MS)) throw new Error('what must pass did not: nothing was shown by this');
    return frames.filter((frame) => holds(frame, MARK));
  }

  destroy(): void {
    for (const { wire } of [this.outsider, ...this.#places.values()]) wire.close();
    closeSocket(this.#outside);
    closeSocket(this.#home);
    this.bed.destroy();
    ip(`netns del ${this.#namespace}`);
  }

  #place(pod: BedPod, host: string, checksums: Checksums): Place {
    const wire = new Wire(pod.netns, 'eth0', checksums);
    return { wire, mac: pod.link.mac, next: macOf(this.router, host) };
  }
}

/** The MACs of a frame that is sent at a place. */
export function by(place: Place): Pick<IpSpec, 'sourceMac' | 'destinationMac'> {
  return { sourceMac: place.mac, destinationMac: place.next };
}

/** A payload that starts with the attack's mark and ends with it. */
export function marked(size: number): Uint8Array {
  return concat(MARK, new Uint8Array(Math.max(0, size - 2 * MARK.length)), MARK);
}

/** The payload of the packet that shows that the way is open. */
export function controlPayload(): Uint8Array {
  return CONTROL;
}

function holds(frame: Uint8Array, what: Uint8Array): boolean {
  return Buffer.from(frame.buffer, frame.byteOffset, frame.length).includes(Buffer.from(what));
}

function macOf(netns: string, name: string): Uint8Array {
  const [link] = JSON.parse(execFileSync('ip', ['-n', netns, '-j', 'link', 'show', name], { encoding: 'utf8' }));
  return Uint8Array.from(String(link.address).split(':'), (octet) => Number.parseInt(octet, 16));
}

function batch(netns: string, commands: readonly string[]): void {
  execFileSync('ip', ['-n', netns, '-batch', '-'], { input: `${commands.join('\n')}\n` });
}

function ip(command: string): void {
  execFileSync('ip', command.split(' '));
}

/** The programs on every pod's link, with small tables; each drop is an event. `attach`: by default as this kernel can. */
export function openOn({ bed: { prefix, pods } }: WireBed, attach: Pick<OpenOptions, 'attach'> = {}): EbpfDatapath {
  const datapath = openDatapath({
    ...{ instance: prefix, node: 'node-a', ...attach },
    sizes: { ct_map: 4352, drop_map: 4096, arena: 4096 },
    knobs: { dropWindow: 0n, dropRate: 1_000_000n },
  });
  for (const pod of pods) datapath.attach(pod.link);
  return datapath;
}

/** Takes the programs, their pins and the network away. */
export function closeOn(net: WireBed, datapath: EbpfDatapath): void {
  datapath.detachAll();
  datapath.close();
  unpinDatapath(net.bed.prefix, 'node-a');
  net.destroy();
}

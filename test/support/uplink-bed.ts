// A node with a datapath, three pods and an uplink, behind which is a pod of another node: frames one way and the other.

import type { AttachMode } from '#datapath/ebpf/hooks.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from '#datapath/ebpf/open.ts';
import { type PortSpec, tcp } from '#datapath/packets.ts';
import type { DatapathEvent } from '#datapath/port.ts';
import { attachTcx, closeObject, loadConstant } from '#kernel/bpf.ts';
import { attachFilter, detachFilter } from '#kernel/tc.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { endpointStep, ground, identitySteps, isolatingSet } from './hand-plan.ts';
import { address, waitFor } from './pod-bed.ts';
import { by, NODE, OUTSIDER, type Place, WireBed } from './wire-bed.ts';

/** A pod behind the other end of the uplink. */
export const REMOTE: Readonly<Record<4 | 6, Address>> = { 4: address('10.10.0.9'), 6: address('fd10::9') };

/** Addresses of the other end of the uplink. */
const OTHER_NODE: readonly Address[] = [OUTSIDER.v4, OUTSIDER.v6];
const KNOWN = 5;
const CLOSED_SET = 9;
const TC_ACT_OK = 0;
const WAIT_MS = 60;
/** The datapath looks at interfaces no more often than this. */
const FACTS_MS = 550;

type Segment = PortSpec & { readonly flags?: string };
/** How many packets went past the stack. */
export type Passed = { readonly out: number; readonly into: number };

export class UplinkBed {
  readonly net: WireBed;
  readonly datapath: EbpfDatapath;
  readonly #attach: AttachMode;
  /** Source port of the frames that are made: each test has its own. */
  port = 1000;

  /** The third pod is spoken to by nobody. */
  constructor(name: string, attach: AttachMode) {
    this.#attach = attach;
    this.net = new WireBed(`${name}-${attach}`, 3);
    this.net.onNode('ip', 'route', 'add', '10.10.0.0/24', 'via', '198.51.100.2');
    this.net.onNode('ip', 'route', 'add', 'fd10::/64', 'via', '2001:db8::2');
    const { prefix, pods } = this.net.bed;
    // Known from the start: whether they can be asked for is another matter, and IPv6 takes its time.
    const neighbour = (to: Address, dev: string, mac: Uint8Array): string =>
      this.net.onNode('ip', 'neigh', 'replace', formatAddress(to), 'dev', dev, 'lladdr', macText(mac));
    for (const to of OTHER_NODE) neighbour(to, 'u1', this.net.outsider.mac);
    for (const [index, { v4, v6, link }] of pods.entries()) {
      for (const to of [v4, v6]) neighbour(to, `h${index + 1}`, link.mac);
    }
    this.datapath = openDatapath({
      ...{ instance: prefix, node: 'node-a', attach },
      sizes: { ct_map: 5120 },
      knobs: { dropWindow: 0n },
    });
    for (const pod of pods) {
      this.datapath.attach(pod.link);
      // Their own kernels answer nobody: what is counted was sent by the test.
      for (const family of ['-4', '-6']) this.net.bed.run(pod, 'ip', family, 'route', 'del', 'default');
    }
    const known = [...pods.flatMap(({ v4, v6 }) => [v4, v6]), ...NODE, REMOTE[4], REMOTE[6]];
    this.datapath.apply([
      ...ground(),
      ...identitySteps(KNOWN, known),
      ...isolatingSet(CLOSED_SET, 90),
      { kind: 'node', node: 'node-a', value: NODE },
      // The other end of the uplink is a node.
      { kind: 'node', node: 'node-b', value: OTHER_NODE },
    ]);
    for (const index of pods.keys()) this.admit(index, index === 2 ? 'closed' : 'open');
    this.datapath.settle();
  }

  /** Who may speak to a pod from now on: everybody or nobody. */
  admit(pod: number, to: 'open' | 'closed'): void {
    const { link, name } = this.net.pod(pod);
    const sets = to === 'open' ? {} : { ingress: CLOSED_SET };
    this.datapath.apply(link.addresses.map((each) => endpointStep(each, sets, name)));
  }

  own(pod: number, family: 4 | 6): Address {
    return family === 4 ? this.net.pod(pod).v4 : this.net.pod(pod).v6;
  }

  at(pod: number): Place {
    return this.net.at(this.net.pod(pod));
  }

  get passed(): Passed {
    const { routed, delivered } = this.datapath.counters();
    return { out: Number(routed), into: Number(delivered) };
  }

  /** A segment from the remote pod to the first one here, as the wire brings it; `more` changes it. */
  inward(family: 4 | 6, more: Partial<Segment> = {}): Uint8Array {
    const ends = { from: REMOTE[family], to: this.own(0, family), sport: this.port, dport: 80 };
    return tcp({ ...ends, ...by(this.net.outsider), ...more });
  }

  /** A segment from the first pod here to the remote one. */
  outward(family: 4 | 6, more: Partial<Segment> = {}): Uint8Array {
    const ends = { from: this.own(0, family), to: REMOTE[family], sport: this.port, dport: 80 };
    return tcp({ ...ends, ...by(this.at(0)), ...more });
  }

  /** Sends a frame at a place; the frames with this test's port that come out at another, as hexadecimal text. */
  send(frame: Uint8Array, from: Place, to: Place): readonly string[] {
    to.wire.received();
    from.wire.send(frame);
    const ports = [
      Buffer.from([this.port >> 8, this.port & 255, 0, 80]),
      Buffer.from([this.port >> 8, this.port & 255, 0, 53]),
    ];
    const swapped = ports.map((pair) => Buffer.concat([pair.subarray(2), pair.subarray(0, 2)]));
    const found: string[] = [];
    const isDone = (): boolean => {
      for (const each of to.wire.received().map((bytes) => Buffer.from(bytes))) {
        if ([...ports, ...swapped].some((pair) => each.includes(pair))) found.push(each.toString('hex'));
      }
      return found.length > 0;
    };
    waitFor(isDone, WAIT_MS);
    return found;
  }

  sendIn(frame: Uint8Array, pod = 0): readonly string[] {
    return this.send(frame, this.net.outsider, this.at(pod));
  }

  sendOut(frame: Uint8Array): readonly string[] {
    return this.send(frame, this.at(0), this.net.outsider);
  }

  /** Forgets what happened so far; another port. */
  next(): void {
    this.port++;
    this.datapath.poll();
  }

  drops(): readonly DatapathEvent[] {
    return this.datapath.poll().events.filter(({ kind }) => kind === 'drop');
  }

  /** Looks at interfaces afresh. */
  refresh(): void {
    waitFor(() => false, FACTS_MS);
    this.datapath.refresh();
  }

  indexOf(name: string): number {
    return Number(JSON.parse(this.net.onNode('ip', '-j', 'link', 'show', name))[0].ifindex);
  }

  /** What `work` gives while somebody's program stands on the uplink, so that everything takes the stack. */
  byStack<T>(work: () => T): T {
    const leave = this.#stand();
    try {
      this.datapath.repair();
      return work();
    } finally {
      leave();
      this.datapath.repair();
    }
  }

  #stand(): () => void {
    const program = loadConstant(TC_ACT_OK);
    const index = this.indexOf('u1');
    if (this.#attach === 'tcx') {
      const link = attachTcx(program, index, 'ingress');
      return () => [link, program].forEach(closeObject);
    }
    const key = { priority: 9, handle: 7 };
    attachFilter(index, 'ingress', key, program);
    return () => {
      detachFilter(index, 'ingress', key);
      closeObject(program);
    };
  }

  destroy(): void {
    this.datapath.detachAll();
    this.datapath.close();
    unpinDatapath(this.net.bed.prefix, 'node-a');
    this.net.destroy();
  }
}

function macText(mac: Uint8Array): string {
  return [...mac].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}

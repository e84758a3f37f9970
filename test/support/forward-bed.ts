// A node that asks backends of other nodes for clients outside: frames in by its uplink, and what comes out there.
import assert from 'node:assert/strict';
import type { AttachMode } from '#datapath/ebpf/hooks.ts';
import { type PortSpec, tcp, udp } from '#datapath/packets.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { type Protocol, TCP, UDP } from '#net/protocol.ts';
import { maglevPlaces } from '#service/maglev.ts';
import { address, waitFor } from './pod-bed.ts';
import { REMOTE, UplinkBed } from './uplink-bed.ts';
import { by } from './wire-bed.ts';

export const PROTOCOLS: readonly (readonly [name: string, number: Protocol])[] = [
  ['TCP', TCP],
  ['UDP', UDP],
];
type Families = Readonly<Record<4 | 6, Address>>;
/** An address of the node, and a Service's that is nobody's. */
export const NODE: Families = { 4: address('198.51.100.1'), 6: address('2001:db8::1') };
export const EXTERNAL: Families = { 4: address('203.0.113.5'), 6: address('2001:db8:5::5') };
/** The first of the node's addresses: by this one it speaks. */
export const SELF: Families = { 4: address('192.0.2.1'), 6: address('fd00::1') };
export const CLIENT: Families = { 4: address('198.18.0.50'), 6: address('2001:db8:c::50') };
export const PORT = 30053;
export const LISTENS = 80;
/** The ports by which the node asks, from this one to the last there is; of how many each client has its choice. */
const SELF_PORTS = 61_000;
export const TRIED = 16;
export const WAIT_MS = 60;

/** What a frame is besides its ends. */
export type Spec = Omit<PortSpec, 'from' | 'to' | 'sport' | 'dport'> & {
  readonly flags?: string;
  readonly hopLimit?: number;
};
export type Ends = { readonly from: Address; readonly to: Address; readonly sport: number; readonly dport: number };
export type Found = readonly { readonly frame: Buffer; readonly payload: Buffer }[];

export class ForwardBed {
  readonly uplink: UplinkBed;
  #count = 0;

  constructor(name: string, attach: AttachMode) {
    this.uplink = new UplinkBed(name, attach);
    this.uplink.net.onNode('ip', 'route', 'add', '198.18.0.0/24', 'via', '198.51.100.2');
    this.uplink.net.onNode('ip', 'route', 'add', '2001:db8:c::/64', 'via', '2001:db8::2');
  }

  /** Another client's port, and Services as they are at first: by the pod behind the uplink. */
  next(): void {
    this.uplink.next();
    for (const family of [4, 6] as const) {
      for (const at of [NODE[family], EXTERNAL[family]]) this.serve(at, [REMOTE[family]]);
    }
  }

  serve(to: Address, backends: readonly Address[]): void {
    for (const [, protocol] of PROTOCOLS) {
      const at = { address: to, protocol, port: PORT, scope: 'outside' } as const;
      const who = backends.map((each) => ({ address: each, port: LISTENS }));
      this.uplink.datapath.apply([{ kind: 'service', at, value: { ...at, backends: who, places: maglevPlaces(who) } }]);
    }
  }

  frame(protocol: number, { from, to, ...ports }: Ends, more: Spec): Uint8Array {
    return (protocol === TCP ? tcp : udp)({
      ...{ from: formatAddress(from), to: formatAddress(to), ...ports },
      ...by(this.uplink.net.outsider),
      ...more,
    });
  }

  /** What comes out at the uplink of a frame that came in there; each frame has a text of its own. */
  send(protocol: number, ends: Ends, more: Spec = {}): Found {
    const { wire } = this.uplink.net.outsider;
    const payload = Buffer.from(`frame ${++this.#count} of this test`);
    wire.received();
    wire.send(this.frame(protocol, ends, { ...more, payload }));
    const found: { frame: Buffer; payload: Buffer }[] = [];
    waitFor(() => {
      for (const each of wire.received().map((bytes) => Buffer.from(bytes))) {
        // And no ICMP error that quotes it.
        const isOwn = each[ends.to.family === 4 ? 23 : 20] === protocol;
        if (isOwn && each.includes(payload)) found.push({ frame: each, payload });
      }
      return found.length > 0;
    }, WAIT_MS);
    return found;
  }

  ask(family: 4 | 6, to: Address = NODE[family], sport: number = this.uplink.port): Ends {
    return { from: CLIENT[family], to, sport, dport: PORT };
  }

  /** A backend's answer to the node. */
  reply(family: 4 | 6, dport: number, from: Address = REMOTE[family]): Ends {
    return { from, to: SELF[family], sport: LISTENS, dport };
  }

  /** The one frame that came out is this one, but for MACs and `hopLimit`. */
  same(protocol: number, found: Found, ends: Ends, more: Spec): void {
    assert.equal(found.length, 1);
    const payload = found[0]?.payload ?? Buffer.alloc(0);
    const expected = this.frame(protocol, ends, { ...more, payload, hopLimit: 63 });
    assert.equal(found[0]?.frame.subarray(14).toString('hex'), Buffer.from(expected.subarray(14)).toString('hex'));
  }

  /** Sends the first packet on; the port by which the node asks. */
  open(family: 4 | 6, protocol: number, ends: Ends = this.ask(family), backend: Address = REMOTE[family]): number {
    const more = protocol === TCP ? { flags: 'S' } : {};
    const found = this.send(protocol, ends, more);
    assert.equal(found.length, 1, 'the first packet goes on');
    const sport = portOf(family, found);
    this.same(protocol, found, { from: SELF[family], to: backend, sport, dport: LISTENS }, more);
    assert.ok(sport >= SELF_PORTS);
    return sport;
  }

  /** The handshake of a connection that is at its first packet. */
  shake(family: 4 | 6, self: number, ends: Ends = this.ask(family)): void {
    assert.equal(this.send(TCP, this.reply(family, self), { flags: 'SA' }).length, 1);
    assert.equal(this.send(TCP, ends, { flags: 'A' }).length, 1);
  }
}

/** The source port of the first frame. */
export function portOf(family: 4 | 6, found: Found): number {
  return found[0]?.frame.readUInt16BE(14 + (family === 4 ? 20 : 40)) ?? 0;
}

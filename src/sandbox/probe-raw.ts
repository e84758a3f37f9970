// Raw sockets of probes: one for each address and protocol, shared by all SCTP or ICMP probes of that address.

import * as sockets from '#kernel/sockets.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { ICMP, type Protocol, SCTP } from '#net/protocol.ts';
import { decodeEcho, decodeSctp, encodeSctp, stripIpv4Header } from './probe-packets.ts';
import type { SocketLoop } from './socket-loop.ts';

/** Whom an answer is for: the port (ICMP: the id) that the probe sent from. */
type Waiting = (nonce: Uint8Array) => void;

/** A raw socket bound to one address. */
export class RawChannel {
  readonly #fd: number;
  readonly #protocol: Protocol;
  readonly #address: Address;
  readonly #answered: Set<number> = new Set();
  readonly #waiting: Map<number, Waiting> = new Map();
  readonly #buffer: Buffer = Buffer.alloc(65536);

  constructor(loop: SocketLoop, place: { readonly netns: string; readonly address: Address }, protocol: Protocol) {
    this.#protocol = protocol;
    this.#address = place.address;
    this.#fd = loop.inside(place.netns, () => sockets.openSocket(place.address.family, { raw: protocol }));
    sockets.setReceiveBuffer(this.#fd, 4 * 1024 * 1024);
    // Raw IPv6 takes no port; binding makes the kernel hand over only what is sent to this address.
    sockets.bindSocket(this.#fd, place.address, 0);
    loop.add(this.#fd, 'read', () => this.#read());
  }

  /** Answers INITs to this port. */
  answer(port: number): void {
    this.#answered.add(port);
  }

  /** Calls `handle` with the nonce of each answer to this port or id, until `forget`. */
  expect(port: number, handle: Waiting): void {
    this.#waiting.set(port, handle);
  }

  forget(port: number): void {
    this.#waiting.delete(port);
  }

  send(to: Address, packet: Uint8Array): sockets.Transfer {
    return sockets.sendSocket(this.#fd, packet, { address: to, port: 0 });
  }

  #read(): void {
    for (;;) {
      const { got, from } = sockets.receiveFrom(this.#fd, this.#buffer);
      if (got.kind !== 'done' || from === null) return;
      const data = this.#buffer.subarray(0, got.bytes);
      this.#handle(this.#address.family === 4 ? stripIpv4Header(data) : data, from.address);
    }
  }

  #handle(data: Uint8Array, from: Address): void {
    if (this.#protocol !== SCTP) {
      const echo = decodeEcho(this.#protocol === ICMP ? 4 : 6, data);
      if (echo?.kind === 'reply') this.#waiting.get(echo.id)?.(echo.nonce);
      return;
    }
    const packet = decodeSctp(data);
    if (packet?.kind === 'init-ack') this.#waiting.get(packet.destinationPort)?.(packet.nonce);
    if (packet?.kind !== 'init' || !this.#answered.has(packet.destinationPort)) return;
    const { sourcePort, destinationPort } = packet;
    const reply = { ...packet, sourcePort: destinationPort, destinationPort: sourcePort };
    this.send(from, encodeSctp({ ...reply, kind: 'init-ack' }));
  }
}

/** The raw sockets of one probe, each opened at its first use. */
export class RawChannels {
  readonly #loop: SocketLoop;
  readonly #open: Map<string, RawChannel> = new Map();

  constructor(loop: SocketLoop) {
    this.#loop = loop;
  }

  open(place: { readonly netns: string; readonly address: Address }, protocol: Protocol): RawChannel {
    const key = `${place.netns} ${formatAddress(place.address)} ${protocol}`;
    const known = this.#open.get(key);
    if (known !== undefined) return known;
    const channel = new RawChannel(this.#loop, place, protocol);
    this.#open.set(key, channel);
    return channel;
  }
}

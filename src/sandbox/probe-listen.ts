// The answering side of a probe: echo servers on every probed port of every address.

import * as sockets from '#kernel/sockets.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { ICMP, ICMPV6, type Protocol, protocolName, SCTP, TCP, UDP } from '#net/protocol.ts';
import { errorText, SandboxError } from './error.ts';
import type { RawChannels } from './probe-raw.ts';
import type { SocketLoop } from './socket-loop.ts';

/** Where something listens: an address of a namespace. */
export type ListenPlace = { readonly netns: string; readonly address: Address };

const BACKLOG = 1024;
const BUFFER_SIZE = 2048;

/** Opens each echo server once, however many ends share a namespace. */
export class EchoServers {
  readonly #loop: SocketLoop;
  readonly #raw: RawChannels;
  readonly #open: Set<string> = new Set();
  readonly #buffer: Buffer = Buffer.alloc(BUFFER_SIZE);

  constructor(loop: SocketLoop, raw: RawChannels) {
    this.#loop = loop;
    this.#raw = raw;
  }

  /** Listens. Throws where the port is taken: the probe would reach somebody else's server. */
  listen(place: ListenPlace, protocol: Protocol, port: number): void {
    const key = `${place.netns} ${formatAddress(place.address)} ${protocol} ${port}`;
    if (this.#open.has(key)) return;
    try {
      this.#listenNew(place, protocol, port);
      this.#open.add(key);
    } catch (cause) {
      const what = `${formatAddress(place.address)} port ${port}/${protocolName(protocol)} in ${place.netns}`;
      const message = `can't listen on ${what}: ${errorText(cause)}`;
      throw new SandboxError('listen', message, 'probe another port, or stop what listens there', cause);
    }
  }

  #listenNew(place: ListenPlace, protocol: Protocol, port: number): void {
    switch (protocol) {
      case TCP:
        this.#listenStream(place, port);
        break;
      case UDP:
        this.#listenDatagrams(place, port);
        break;
      case SCTP:
        this.#raw.open(place, SCTP).answer(port);
        break;
      case ICMP:
      case ICMPV6:
        break; // Every kernel answers an echo request.
      default:
        throw new Error('only TCP, UDP, SCTP and ICMP can be probed');
    }
  }

  #listenStream(place: ListenPlace, port: number): void {
    const fd = this.#loop.inside(place.netns, () => sockets.openSocket(place.address.family, 'stream'));
    sockets.reuseAddress(fd);
    sockets.bindSocket(fd, place.address, port);
    sockets.listenSocket(fd, BACKLOG);
    this.#loop.add(fd, 'read', () => {
      for (let next = sockets.acceptSocket(fd); next !== null; next = sockets.acceptSocket(fd)) this.#serve(next);
    });
  }

  #serve(fd: number): void {
    sockets.resetOnClose(fd);
    const close = this.#loop.add(fd, 'read', () => {
      const got = sockets.receiveSocket(fd, this.#buffer);
      if (got.kind === 'would-block') return;
      if (got.kind === 'failed' || got.bytes === 0) close();
      else sockets.sendSocket(fd, this.#buffer.subarray(0, got.bytes), null);
    });
  }

  #listenDatagrams(place: ListenPlace, port: number): void {
    const fd = this.#loop.inside(place.netns, () => sockets.openSocket(place.address.family, 'datagram'));
    sockets.bindSocket(fd, place.address, port);
    this.#loop.add(fd, 'read', () => {
      for (;;) {
        const { got, from } = sockets.receiveFrom(fd, this.#buffer);
        if (got.kind !== 'done' || from === null) return;
        sockets.sendSocket(fd, this.#buffer.subarray(0, got.bytes), from);
      }
    });
  }
}

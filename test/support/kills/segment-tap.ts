// Hears every TCP segment and UDP datagram that enters a pod, whoever listens there.
import * as sockets from '#kernel/sockets.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { type Protocol, TCP, UDP } from '#net/protocol.ts';
import type { BedPod } from '../pod-bed.ts';

export type Segment = {
  readonly protocol: Protocol;
  readonly from: Address;
  readonly sourcePort: number;
  readonly destinationPort: number;
};

export class SegmentTap {
  readonly #open: readonly { readonly protocol: Protocol; readonly fd: number }[];
  readonly #buffer: Buffer = Buffer.alloc(2048);

  constructor({ netns }: Pick<BedPod, 'netns'>) {
    this.#open = [TCP, UDP].map((protocol) => {
      const fd = sockets.inNetns(netns, () => sockets.openSocket(4, { raw: protocol }));
      sockets.setReceiveBuffer(fd, 1 << 20);
      return { protocol, fd };
    });
  }

  /** All over IPv4 since the last call. */
  heard(): readonly Segment[] {
    const all: Segment[] = [];
    for (const { protocol, fd } of this.#open) {
      for (;;) {
        const { got, from } = sockets.receiveFrom(fd, this.#buffer);
        if (got.kind !== 'done') break;
        if (from === null) throw new Error('a packet of nobody');
        const header = ((this.#buffer[0] ?? 0) & 15) * 4;
        const [sourcePort, destinationPort] = [
          this.#buffer.readUInt16BE(header),
          this.#buffer.readUInt16BE(header + 2),
        ];
        all.push({ protocol, from: from.address, sourcePort, destinationPort });
      }
    }
    return all;
  }

  close(): void {
    for (const { fd } of this.#open) sockets.closeSocket(fd);
  }
}

/** As a failure names it. */
export function segmentText({ protocol, from, sourcePort, destinationPort }: Segment): string {
  return `${protocol === TCP ? 'TCP' : 'UDP'} ${formatAddress(from)} port ${sourcePort} to port ${destinationPort}`;
}

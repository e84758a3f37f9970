// What a namespace's IP layer hands to upper layers, of every protocol: fragments put together, options and extension
// headers gone.
import * as sockets from '#kernel/sockets.ts';
import type { Address } from '#net/address.ts';
import type { Protocol } from '#net/protocol.ts';

/** A packet as an upper layer gets it. */
export type Delivered = { readonly protocol: Protocol; readonly from: Address; readonly payload: Uint8Array };

/** Everything that random frames say often. Linux hands extension headers' numbers to nobody. */
const PROTOCOLS = {
  4: [1, 2, 4, 6, 17, 41, 43, 44, 47, 50, 51, 58, 59, 60, 132, 135],
  6: [1, 2, 4, 6, 17, 41, 47, 50, 51, 58, 132],
} as const;

export class RawListeners {
  readonly #open: readonly { readonly fd: number; readonly family: 4 | 6; readonly protocol: Protocol }[];
  readonly #buffer: Buffer = Buffer.alloc(70_000);

  constructor(netns: number) {
    this.#open = ([4, 6] as const).flatMap((family) =>
      PROTOCOLS[family].map((protocol) => {
        const fd = sockets.inNetns(netns, () => sockets.openSocket(family, { raw: protocol }));
        sockets.setReceiveBuffer(fd, 1 << 20);
        return { fd, family, protocol };
      }),
    );
  }

  /** Everything since the last call. */
  received(): readonly Delivered[] {
    const all: Delivered[] = [];
    for (const { fd, family, protocol } of this.#open) {
      for (;;) {
        const { got, from } = sockets.receiveFrom(fd, this.#buffer);
        if (got.kind !== 'done' || from === null) break;
        const packet = Uint8Array.from(this.#buffer.subarray(0, got.bytes));
        const header = family === 4 ? ((packet[0] ?? 0) & 15) * 4 : 0;
        all.push({ protocol, from: from.address, payload: packet.subarray(header) });
      }
    }
    return all;
  }

  close(): void {
    for (const { fd } of this.#open) sockets.closeSocket(fd);
  }
}

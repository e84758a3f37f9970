// Bends frames out of shape, and repairs lengths and checksums around what was bent, so that it is looked at.
import fc from 'fast-check';
import { concat } from '#datapath/packets.ts';

/** One change to a frame. `at` counts from the IP header; what lies behind the frame's end is left alone. */
export type Mutation =
  | { readonly kind: 'set'; readonly at: number; readonly value: number }
  | { readonly kind: 'insert'; readonly at: number; readonly bytes: Uint8Array }
  | { readonly kind: 'remove'; readonly at: number; readonly count: number }
  | { readonly kind: 'repeat'; readonly at: number; readonly count: number }
  | { readonly kind: 'cut'; readonly count: number };

export type Bending = {
  readonly mutations: readonly Mutation[];
  /** The IP header's length field and checksum: as they were, or right again. */
  readonly repair: 'nothing' | 'checksum' | 'all';
};

const ETHERNET = 14;

/** Header numbers, lengths and limits that parsers branch on, and any others. */
const byte = fc.oneof(
  fc.constantFrom(0, 1, 2, 4, 5, 6, 7, 8, 15, 17, 20, 32, 40, 41, 43, 44, 47, 50, 51, 58, 59, 60, 64),
  fc.constantFrom(0x45, 0x46, 0x4f, 0x60, 0x83, 0x89, 0x88, 132, 135, 0x50, 0x60, 0xf0, 127, 128, 129, 254, 255),
  fc.nat({ max: 255 }),
);
/** Where headers are, more often than behind them. */
const place = fc.oneof({ weight: 4, arbitrary: fc.nat({ max: 72 }) }, { weight: 1, arbitrary: fc.nat({ max: 200 }) });
const count = fc.constantFrom(1, 2, 4, 8, 8, 16, 24, 40);

const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('set' as const), at: place, value: byte }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('insert' as const),
      at: place,
      bytes: fc.uint8Array({ minLength: 1, maxLength: 24 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('remove' as const), at: place, count }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('repeat' as const), at: place, count }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('cut' as const), count: fc.nat({ max: 80 }) }) },
);

export const arbitraryBending: fc.Arbitrary<Bending> = fc.record({
  mutations: fc.array(mutation, { minLength: 1, maxLength: 4 }),
  repair: fc.constantFrom('nothing', 'checksum', 'all', 'all'),
});

/** The frame, bent. Its Ethernet header stays. */
export function bend(frame: Uint8Array, { mutations, repair }: Bending): Uint8Array {
  const bent = mutations.reduce(mutate, frame.subarray(ETHERNET));
  return concat(frame.subarray(0, ETHERNET), repaired(bent, repair));
}

function mutate(packet: Uint8Array, change: Mutation): Uint8Array {
  if (change.kind === 'cut') return packet.subarray(0, Math.max(0, packet.length - change.count));
  if (change.at >= packet.length) return packet;
  const [before, after] = [packet.subarray(0, change.at), packet.subarray(change.at)];
  if (change.kind === 'set') return packet.with(change.at, change.value);
  if (change.kind === 'insert') return concat(before, change.bytes, after);
  if (change.kind === 'remove') return concat(before, after.subarray(change.count));
  return concat(before, after.subarray(0, change.count), after);
}

function repaired(packet: Uint8Array, repair: Bending['repair']): Uint8Array {
  const version = (packet[0] ?? 0) >> 4;
  const header = version === 4 ? ((packet[0] ?? 0) & 15) * 4 : 40;
  if (repair === 'nothing' || packet.length < 20 || header > packet.length) return packet;
  const copy = Uint8Array.from(packet);
  if (version === 6 && repair === 'all') copy.set(u16(copy.length - 40), 4);
  if (version !== 4) return copy;
  if (repair === 'all') copy.set(u16(copy.length), 2);
  copy.set([0, 0], 10);
  let sum = 0;
  for (let at = 0; at < header; at += 2) sum += ((copy[at] ?? 0) << 8) | (copy[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  copy.set(u16(~sum & 0xffff), 10);
  return copy;
}

function u16(value: number): number[] {
  return [(value >>> 8) & 255, value & 255];
}

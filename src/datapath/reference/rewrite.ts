// Frames with another address and port at one end: the same frame else, its sums right if they were right before.
import type { Backend } from '#compile/plan.ts';
import { TCP, UDP } from '#net/protocol.ts';
import { readUint } from './bytes.ts';

const ETHERNET = 14;
const FRAGMENT = 44;
/** Hop-by-hop, routing, fragment, destination options. */
const EXTENSIONS: readonly number[] = [0, 43, FRAGMENT, 60];

/** Where the parts of an IP frame are. `transport` is null in a fragment other than the first. */
type Layout = { readonly v6: boolean; readonly protocol: number; readonly transport: number | null };

/** The frame, an IP packet that was parsed before, from or to another end. */
export function withEnd(frame: Uint8Array, which: 'source' | 'destination', end: Backend): Uint8Array {
  const layout = layoutOf(frame);
  const changed = frame.slice();
  const { v6, protocol, transport } = layout;
  const isSource = which === 'source';
  const addressAt = ETHERNET + (v6 ? (isSource ? 8 : 24) : isSource ? 12 : 16);
  const sums = [
    ...(v6 ? [] : [ETHERNET + 10]),
    ...(transport === null || !hasSum(frame, protocol, transport) ? [] : [transport + sumAt(protocol)]),
  ];
  const change = (at: number, value: number, of: readonly number[]): void => {
    for (const sum of of) writeWord(changed, sum, replaced(word(changed, sum), word(changed, at), value));
    writeWord(changed, at, value);
  };
  for (const [index, each] of end.address.words.entries()) {
    change(addressAt + 4 * index, each >>> 16, sums);
    change(addressAt + 4 * index + 2, each & 0xffff, sums);
  }
  // The IP header's own sum is over no ports.
  if (transport !== null) change(transport + (isSource ? 0 : 2), end.port, sums.slice(v6 ? 0 : 1));
  // A datagram's sum of zero would say that there is none.
  for (const sum of sums.slice(v6 ? 0 : 1))
    if (protocol === UDP && word(changed, sum) === 0) writeWord(changed, sum, 0xffff);
  return changed;
}

/** RFC 1624, equation 3. */
function replaced(sum: number, before: number, after: number): number {
  const total = (~sum & 0xffff) + (~before & 0xffff) + after;
  const folded = (total & 0xffff) + (total >>> 16);
  return ~((folded & 0xffff) + (folded >>> 16)) & 0xffff;
}

function hasSum(frame: Uint8Array, protocol: number, transport: number): boolean {
  return protocol === TCP || (protocol === UDP && word(frame, transport + 6) !== 0);
}

function sumAt(protocol: number): number {
  return protocol === TCP ? 16 : 6;
}

function layoutOf(frame: Uint8Array): Layout {
  if (readUint(frame, 12, 2) === 0x0800) {
    const isLater = (word(frame, ETHERNET + 6) & 0x1fff) !== 0;
    const header = ((frame[ETHERNET] ?? 0) & 15) * 4;
    return { v6: false, protocol: frame[ETHERNET + 9] ?? 0, transport: isLater ? null : ETHERNET + header };
  }
  let protocol = frame[ETHERNET + 6] ?? 0;
  let at = ETHERNET + 40;
  while (EXTENSIONS.includes(protocol)) {
    const next = frame[at] ?? 0;
    if (protocol === FRAGMENT && word(frame, at + 2) >>> 3 !== 0) return { v6: true, protocol: next, transport: null };
    at += protocol === FRAGMENT ? 8 : ((frame[at + 1] ?? 0) + 1) * 8;
    protocol = next;
  }
  return { v6: true, protocol, transport: at };
}

function word(frame: Uint8Array, at: number): number {
  return readUint(frame, at, 2) ?? 0;
}

function writeWord(frame: Uint8Array, at: number, value: number): void {
  frame[at] = value >>> 8;
  frame[at + 1] = value & 255;
}

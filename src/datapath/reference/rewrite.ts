// Frames with another address and port at one end: the same frame else, its sums right if they were right before.
import type { Backend } from '#compile/plan.ts';
import { TCP, UDP } from '#net/protocol.ts';
import { readUint } from './bytes.ts';

const ETHERNET = 14;
const FRAGMENT = 44;
const ICMP_HEADER = 8;
/** Hop-by-hop, routing, fragment, destination options. */
const EXTENSIONS: readonly number[] = [0, 43, FRAGMENT, 60];

/** Where the parts of an IP frame are. `transport` is null in a fragment other than the first. */
type Layout = { readonly v6: boolean; readonly protocol: number; readonly transport: number | null };

export type Which = 'source' | 'destination';

/** The frame, an IP packet that was parsed before, from or to another end. */
export function withEnd(frame: Uint8Array, which: Which, end: Backend): Uint8Array {
  return changedAt(frame, ETHERNET, which, end);
}

/**
 * The frame of an ICMP error, which speaks of a packet from or to another end. `isOwn`: the error itself is that end's, or
 * for it.
 */
export function withQuotedEnd(frame: Uint8Array, which: Which, end: Backend, isOwn: boolean): Uint8Array {
  const { v6, transport: message } = layoutOf(frame, ETHERNET);
  if (message === null) return frame;
  const stop = ETHERNET + (v6 ? 40 + word(frame, ETHERNET + 4) : word(frame, ETHERNET + 2));
  const changed = frame.slice();
  changed.set(changedAt(frame.subarray(0, stop), message + ICMP_HEADER, which, end));
  if (isOwn) setOuter(changed, which === 'source' ? 'destination' : 'source', end);
  // Over the message; ICMPv6's over the addresses too.
  const summed = v6 ? [ETHERNET + 8, ETHERNET + 40, message, stop] : [message, stop];
  for (let pair = 0; pair < summed.length; pair += 2)
    for (let at = summed[pair] ?? 0; at < (summed[pair + 1] ?? 0); at += 2)
      if (at !== message + 2)
        writeWord(changed, message + 2, replaced(word(changed, message + 2), word(frame, at), word(changed, at)));
  return changed;
}

/** Another address in the IP header of the frame, and its sum. */
function setOuter(frame: Uint8Array, which: Which, { address }: Backend): void {
  const v6 = address.family === 6;
  const at = addressOf(ETHERNET, which, v6);
  for (const [index, value] of address.words.flatMap((each) => [each >>> 16, each & 0xffff]).entries()) {
    const sum = ETHERNET + 10;
    if (!v6) writeWord(frame, sum, replaced(word(frame, sum), word(frame, at + 2 * index), value));
    writeWord(frame, at + 2 * index, value);
  }
}

/** The IP packet at an offset; what is not there of its transport is not changed. */
function changedAt(frame: Uint8Array, network: number, which: Which, end: Backend): Uint8Array {
  const { v6, protocol, transport } = layoutOf(frame, network);
  const changed = frame.slice();
  const isSource = which === 'source';
  const addressAt = addressOf(network, which, v6);
  const sums = [
    ...(v6 ? [] : [network + 10]),
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

function addressOf(network: number, which: Which, v6: boolean): number {
  return network + (v6 ? 8 : 12) + (which === 'source' ? 0 : v6 ? 16 : 4);
}

function hasSum(frame: Uint8Array, protocol: number, transport: number): boolean {
  if (transport + sumAt(protocol) + 2 > frame.length) return false;
  return protocol === TCP || (protocol === UDP && word(frame, transport + 6) !== 0);
}

function sumAt(protocol: number): number {
  return protocol === TCP ? 16 : 6;
}

function layoutOf(frame: Uint8Array, network: number): Layout {
  if ((frame[network] ?? 0) >>> 4 === 4) {
    const isLater = (word(frame, network + 6) & 0x1fff) !== 0;
    const header = ((frame[network] ?? 0) & 15) * 4;
    return { v6: false, protocol: frame[network + 9] ?? 0, transport: isLater ? null : network + header };
  }
  let protocol = frame[network + 6] ?? 0;
  let at = network + 40;
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

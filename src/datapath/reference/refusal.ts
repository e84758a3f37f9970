// What a pod is told where nobody serves: a reset of what would open a connection, an ICMP error about anything else.
import { type IpSpec, icmpError, tcp, WHOLE } from '#datapath/packets.ts';
import { TCP } from '#net/protocol.ts';
import { readUint } from './bytes.ts';
import { isOpening, type Passage } from './passage.ts';

const ETHERNET = 14;
/** Of the transport header: its ports. */
const QUOTED = 8;

/** The answer to a frame that was parsed before; null to one that has options or extension headers, or is a segment of what was open. */
export function refusalOf(frame: Uint8Array, { tuple, segment }: Passage): Uint8Array | null {
  const { source, destination, sourcePort: dport, destinationPort: sport } = tuple;
  const [destinationMac, sourceMac] = [frame.subarray(6, 12), frame.subarray(0, 6)];
  const isV6 = source.family === 6;
  const header = isV6 ? 40 : 20;
  const isPlain = isV6 ? frame[ETHERNET + 6] === tuple.protocol : frame[ETHERNET] === 0x45;
  if (!isPlain || (!isV6 && ((readUint(frame, ETHERNET + 6, 2) ?? 0) & 0x1fff) !== 0)) return null;
  const ends: IpSpec = {
    from: destination,
    to: source,
    sourceMac,
    destinationMac,
    ...(isV6 ? {} : { fragment: WHOLE }),
  };
  if (tuple.protocol !== TCP) {
    return icmpError({ ...ends, inner: frame.subarray(0, ETHERNET + header + QUOTED) });
  }
  if (!isOpening(segment)) return null;
  return tcp({ ...ends, sport, dport, flags: 'RA', sequence: 0, ack: segment?.end ?? 0, window: 0 });
}

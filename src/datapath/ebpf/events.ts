// Kernel events → the port's events.

import { EVENT, EVENT_KIND, HOOK, LEG_INDEX } from '#datapath/ebpf/encode/abi.gen.ts';
import { readAddress } from '#datapath/ebpf/encode/bytes.ts';
import type { DatapathEvent } from '#datapath/port.ts';
import { DROP_REASONS } from '#datapath/port.ts';
import { DatapathError } from './error.ts';

const KINDS: ReadonlyMap<number, DatapathEvent['kind']> = new Map([
  [EVENT_KIND.NEW, 'new'],
  [EVENT_KIND.CLOSE, 'close'],
  [EVENT_KIND.AUDIT, 'audit'],
]);
const NOWHERE = { family: 4, words: [0] } as const;

/** Decodes one struct event. `ruleOf` turns the kernel's rule number into the Plan's. Throws DatapathError on another size. */
export function decodeEvent(record: Uint8Array, ruleOf: (kernelRule: number) => number | null): DatapathEvent {
  if (record.byteLength !== EVENT.size) {
    throw new DatapathError(`an event of ${record.byteLength} bytes, and ${EVENT.size} are expected`, null);
  }
  const from = new DataView(record.buffer, record.byteOffset, record.byteLength);
  const u8 = (field: number): number => from.getUint8(field);
  const u32 = (field: number): number => from.getUint32(field, true);
  const kind = u8(EVENT.kind);
  return {
    kind: KINDS.get(kind) ?? 'drop',
    hook: u8(EVENT.hook) === HOOK.FROM_POD ? 'from-pod' : 'to-pod',
    reason: DROP_REASONS[u8(EVENT.reason)] ?? 'table-error',
    leg: decodeLeg(u8(EVENT.leg)),
    egressRule: ruleOf(u32(EVENT.egressRule)),
    ingressRule: ruleOf(u32(EVENT.ingressRule)),
    // A frame that was dropped before its addresses were read has none.
    source: readAddress(from, EVENT.source) ?? NOWHERE,
    destination: readAddress(from, EVENT.destination) ?? NOWHERE,
    protocol: u8(EVENT.protocol),
    sourcePort: from.getUint16(EVENT.sourcePort, true),
    destinationPort: from.getUint16(EVENT.destinationPort, true),
    count: u32(EVENT.count),
    timeNs: from.getBigUint64(EVENT.time, true),
  };
}

function decodeLeg(leg: number): DatapathEvent['leg'] {
  if (leg === 1 + LEG_INDEX.EGRESS) return 'egress';
  return leg === 1 + LEG_INDEX.INGRESS ? 'ingress' : null;
}

// Translations of no flow: a flow takes its own away with it (bpf/translation.h), and who speaks on would be sent by these.
import { CT_KEY, CT_VALUE, ENTRY_FLAG, TRANSLATION } from '#datapath/ebpf/encode/abi.gen.ts';
import { allKeys, lookupElement, type MapHandle } from '#kernel/bpf.ts';

const PORT = 2;
const ADDRESS = 16;

/** Those of `translations` that no entry of `flows` speaks of, as text. Both at rest, and none of a client outside at another node. */
export function strayTranslations(flows: MapHandle, translations: MapHandle): readonly string[] {
  const known = new Set<string>();
  each(flows, CT_VALUE.size, (key, value) => {
    if ((value.readUInt8(CT_VALUE.flags) & ENTRY_FLAG.SERVICE) === 0) return;
    const initiator = value.readUInt8(CT_VALUE.initiator) & 1;
    const original = endText(value, CT_VALUE.original, value.readUInt16LE(CT_VALUE.originalPort));
    known.add(sentText(key, initiator, original, endOf(key, 1 - initiator)));
  });
  const strays: string[] = [];
  each(translations, TRANSLATION.size, (key, value) => {
    const initiator = value.readUInt32LE(TRANSLATION.side) & 1;
    const backend = endText(value, TRANSLATION.address, value.readUInt16LE(TRANSLATION.port));
    const text = sentText(key, initiator, endOf(key, 1 - initiator), backend);
    if (!known.has(text)) strays.push(text);
  });
  return strays;
}

function each(map: MapHandle, size: number, work: (key: Buffer, value: Buffer) => void): void {
  const value = Buffer.alloc(size);
  for (const key of allKeys(map)) if (lookupElement(map, key, value)) work(Buffer.from(key), value);
}

function sentText(key: Buffer, initiator: number, service: string, backend: string): string {
  return `${key.readUInt8(CT_KEY.protocol)} ${endOf(key, initiator)} to ${service} at ${backend}`;
}

function endOf(key: Buffer, side: number): string {
  return endText(key, CT_KEY.address + side * ADDRESS, key.readUInt16LE(CT_KEY.port + side * PORT));
}

function endText(bytes: Buffer, at: number, port: number): string {
  return `${bytes.subarray(at, at + ADDRESS).toString('hex')} ${port}`;
}

// The flags of endpoints' records in the kernel: what they are, and what programs do where they are others.
import assert from 'node:assert/strict';
import { ENDPOINT, TAGGED } from '#datapath/ebpf/encode/abi.gen.ts';
import { tablesPath } from '#datapath/ebpf/generations.ts';
import { allKeys, lookupElement, type MapHandle, updateBatch } from '#kernel/bpf.ts';
import { withPinnedMap } from './pinned-map.ts';

/** Those of every endpoint in force. */
export function endpointFlags(instance: string, node: string): readonly number[] {
  return recordsOf(instance, node, (flags) => flags);
}

/** Writes them anew, as `change` makes them, into the records of now. */
export function changeEndpointFlags(instance: string, node: string, change: (flags: number) => number): void {
  recordsOf(instance, node, change);
}

function recordsOf(instance: string, node: string, change: (flags: number) => number): readonly number[] {
  const tables = tablesPath(instance, node);
  const flagsOf = (words: MapHandle, slots: MapHandle): readonly number[] =>
    allKeys(words).map((key) => {
      const [word, record] = [Buffer.alloc(TAGGED.size), Buffer.alloc(ENDPOINT.size)];
      assert.ok(lookupElement(words, key, word));
      const slot = word.subarray(TAGGED.value, TAGGED.value + 4);
      assert.ok(lookupElement(slots, slot, record));
      const flags = record.readUInt32LE(ENDPOINT.flags);
      record.writeUInt32LE(change(flags), ENDPOINT.flags);
      if (change(flags) !== flags) updateBatch(slots, slot, record, 1);
      return flags;
    });
  return withPinnedMap(tables, 'endpoint_map', (words) =>
    withPinnedMap(tables, 'endpoint_slots', (slots) => flagsOf(words, slots)),
  );
}

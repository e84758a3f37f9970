// The order in which Services are written. What packets meet of them: service.test.ts and the conformance suite.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Step } from '#compile/plan.ts';
import { TCP } from '#net/protocol.ts';
import { maglevPlaces, sortedBackends } from '#service/maglev.ts';
import { address } from '#test/support/pod-bed.ts';
import { Encoder } from './encoder.ts';
import type { Sink } from './sink.ts';

/** Names of the writes, one after the other. A record may be written at any time: nothing leads there yet. */
class Log implements Sink {
  readonly writes: string[] = [];
  readonly waiting = new Map<never, never>();

  put(table: string): void {
    this.writes.push(table);
  }

  remove(table: string): void {
    this.writes.push(`-${table}`);
  }

  word(table: string): void {
    this.writes.push(table);
  }

  live(table: string, _slot: number, value: bigint): void {
    this.writes.push(value === 0n ? `-${table}` : table);
  }

  state(field: string): void {
    this.writes.push(field);
  }

  record(): void {}
  mark(): void {}
  flush(): void {}
  retry(): void {}

  read(): null {
    return null;
  }
}

const ROOM = { arena: 64, sets: 8, setSlots: 8, endpointSlots: 8, peerEpochs: 64 };
const PORTS = Array.from({ length: 20 }, (_, index) => 80 + index);

/** A process on empty tables with room for so many backends, and what it wrote after its start. */
function start(backends: number): { readonly log: Log; readonly encoder: Encoder } {
  const log = new Log();
  const services = { services: 256, servicePlaces: 4096, backends: 2 * backends + 1, serviceMarks: 64 };
  const from = { epoch: 0n, generation: 0, base: 0, bank: 0, serviceBank: 0, inherited: [] } as const;
  const encoder = new Encoder(log, { node: 'node-a', sizes: { ...ROOM, ...services }, ...from, wait: () => undefined });
  log.writes.length = 0;
  return { log, encoder };
}

/** All Services, each with one backend. */
function serving(backend: string): readonly Step[] {
  return PORTS.map((port) => {
    const at = { address: address('10.96.0.1'), protocol: TCP, port };
    const backends = sortedBackends([{ address: address(backend), port }]);
    return { kind: 'service', at, value: { ...at, backends, places: maglevPlaces(backends) } };
  });
}

test('Services turn one right after the other, before flows there are judged again and before what they were ends', () => {
  const { log, encoder } = start(64);
  for (const backend of ['10.9.0.1', '10.9.0.2']) {
    log.writes.length = 0;
    encoder.apply(serving(backend));
    const first = log.writes.indexOf('service_map');
    const run = log.writes.slice(first, first + PORTS.length);
    assert.deepEqual(new Set(run), new Set(['service_map']), 'nothing is written in between');
    const early = log.writes.slice(0, first);
    assert.equal(early.includes('peer_epoch') || early.includes('-backend_slots'), false);
    const late = log.writes.slice(first + PORTS.length);
    assert.ok(late.includes(backend === '10.9.0.1' ? 'peer_epoch' : '-backend_slots'), 'and then it is');
  }
});

test('where there is no room beside what stands, all find the room that others leave', () => {
  const { encoder } = start(PORTS.length + 4);
  for (const backend of ['10.9.0.1', '10.9.0.2', '10.9.0.3']) {
    encoder.apply(serving(backend));
    assert.deepEqual(encoder.lacks, []);
  }
});

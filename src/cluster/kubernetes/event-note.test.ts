// Who writes an Event, and when it is over before its turn.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { type EventNote, eventObject, turnOf, WRITERS } from './event-note.ts';
import { EventWriter } from './event-writer.ts';

const NODES = Array.from({ length: 200 }, (_, index) => `node-${index}`);
const NOTE: EventNote = {
  ...{ reason: 'PolicyWarning', key: 'k', stem: 'p', text: 't', delayMs: 0, isStill: () => true, isShared: true },
  regarding: { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', namespace: 'shop', name: 'p', uid: 'u' },
};

test('of all nodes three have a turn, each another one; and each key has other ones first', () => {
  const first = new Set<string>();
  for (let key = 0; key < 200; key++) {
    const turns = NODES.map((node) => turnOf(node, NODES, String(key)));
    const taken = turns.filter((turn) => turn !== null).sort((a, b) => a - b);
    assert.deepEqual(taken, [...Array(WRITERS).keys()]);
    first.add(NODES[turns.indexOf(0)] ?? '');
  }
  assert.ok(first.size > 80, `${first.size} of 200 nodes write 200 Events`);
  assert.equal(turnOf('alone', [], 'k'), 0, 'a node that is not listed yet has a turn, too');
});

test('what is over before its turn is not written', async () => {
  const sent: string[] = [];
  const requests = {
    get: async () => ({}),
    send: async (method: string) => void sent.push(method),
  };
  const writer = new EventWriter(requests, { node: 'a', repeatMs: 1000, tell: (message) => assert.fail(message) });
  let isStill = true;
  writer.note({ ...NOTE, key: 'over', delayMs: 30, isStill: () => isStill });
  writer.note({ ...NOTE, key: 'so', delayMs: 40 });
  isStill = false;
  await pause(150);
  writer.close();
  assert.deepEqual([sent, Object.fromEntries(writer.outcomes)], [['POST'], { over: 1, written: 1 }]);
});

test('a note has 1 024 bytes at most, and no half of a character', () => {
  const { note } = eventObject({ ...NOTE, text: 'ä'.repeat(2000) }, 'a', { at: new Date(), count: 1 }) as {
    note: string;
  };
  assert.ok(Buffer.byteLength(note) <= 1024 && Buffer.byteLength(note) > 1000);
  assert.match(note, /^ä+…$/);
});

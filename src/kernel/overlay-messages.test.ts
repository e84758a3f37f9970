// What is read of the network between nodes is the kernel's word: whatever it is, it ends by a value or a NetlinkError.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseAddress } from '#net/address.ts';
import { holds } from '#test/support/property.ts';
import { type Message, NetlinkError, type Told } from './netlink.ts';
import * as overlay from './overlay-messages.ts';

const MARK = { protocol: 77, priority: 7 };
const POISON = 0x5a;

const address = (text: string) => parseAddress(text) ?? assert.fail(text);
const mac = Uint8Array.of(2, 0, 0, 0, 0, 1);

const FAMILIES = [
  { own: address('192.0.2.1'), block: { address: address('10.1.2.0'), length: 24 } },
  { own: address('2001:db8::1'), block: { address: address('fd10::'), length: 64 } },
];

/** Each kind of message as this side writes it, and what reads it. */
const KINDS = FAMILIES.flatMap(({ own, block }) => {
  const link = { name: 'moat0', id: 5, port: 4789, local: own, mac, mtu: 1450 };
  const entry = { kind: 'forwarding' as const, index: 3, mac, address: own };
  const route = { table: 1000, destination: block, index: 3, gateway: own, source: own };
  const rule = { from: block, table: 1000 };
  const read = <T>({ kind, body }: Message, value: T, reader: (told: Told) => T | null) => {
    return { message: { kind, body, changed: false }, value, reader };
  };
  return [
    read(overlay.makeVxlan(link), link, overlay.readVxlan),
    read(overlay.setEntry(entry), entry, overlay.readEntry),
    read(overlay.setOwnRoute(route, MARK), route, (told) => overlay.readOwnRoute(told, MARK)),
    read(overlay.addRule(rule, MARK), rule, (told) => overlay.readRule(told, MARK)),
  ];
});

test('what was written is read as it was meant', () => {
  for (const { message, value, reader } of KINDS) assert.deepEqual(reader(message), value);
});

test('whatever the bytes are, they are read within their bounds, to a value of whole addresses or a NetlinkError', (t) => {
  const cases = fc.constantFrom(...KINDS).chain(({ message, reader }) => {
    const size = message.body.length;
    const change = fc.tuple(fc.nat(size - 1), fc.nat(255));
    return fc.tuple(fc.constant({ message, reader }), fc.array(change, { maxLength: 4 }), fc.nat(size));
  });
  const property = fc.property(cases, ([{ message, reader }, changes, size]) => {
    const read = (poison: number): unknown => {
      const room = Buffer.alloc(message.body.length + 64, poison);
      message.body.copy(room, 0, 0, size);
      for (const [at, value] of changes) if (at < size) room[at] = value;
      try {
        return reader({ ...message, body: room.subarray(0, size) });
      } catch (error) {
        assert.ok(error instanceof NetlinkError, String(error));
        return error.message;
      }
    };
    const found = read(POISON);
    assert.deepEqual(found, read(~POISON & 0xff));
    JSON.stringify(found, (key, value) => {
      if (key === 'words') assert.ok(value.length === 1 || value.length === 4, `an address of ${value.length} words`);
      return value;
    });
  });
  holds(t, property, 20_000);
});

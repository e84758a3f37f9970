// What the kernel sends is read within its bounds, whatever it says of its own lengths.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { holds } from '#test/support/property.ts';
import { decodeFilterDump, encodeFilterDump, NetlinkError } from './netlink.ts';

const NEWTFILTER = 44;
const ERROR = 2;
const DONE = 3;
/** Stands behind what was received: a reader that goes too far meets it. */
const POISON = 0xa5;

function message(kind: number, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  const bytes = Buffer.alloc(16 + Math.ceil(body.length / 4) * 4);
  bytes.writeUInt32LE(16 + body.length, 0);
  bytes.writeUInt16LE(kind, 4);
  body.copy(bytes, 16);
  return bytes;
}

function attribute(kind: number, body: Buffer): Buffer {
  const bytes = Buffer.alloc(Math.ceil((4 + body.length) / 4) * 4);
  bytes.writeUInt16LE(4 + body.length, 0);
  bytes.writeUInt16LE(kind, 2);
  body.copy(bytes, 4);
  return bytes;
}

function word(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}

function filter(handle: number, priority: number, program: number): Buffer {
  const header = Buffer.alloc(20);
  header.writeUInt32LE(handle, 8);
  header.writeUInt32LE(((priority << 16) | 3) >>> 0, 16);
  const options = attribute(2, attribute(11, word(program)));
  return message(NEWTFILTER, header, attribute(1, Buffer.from('bpf\0')), options);
}

describe('a dump of filters', () => {
  it('is read filter by filter, to its end', () => {
    const dump = Buffer.concat([filter(0, 1, 0), filter(7, 1, 42), filter(9, 2, 43), message(DONE, word(0))]);
    assert.deepEqual(decodeFilterDump(dump), {
      filters: [
        { handle: 7, priority: 1, kind: 'bpf', program: 42 },
        { handle: 9, priority: 2, kind: 'bpf', program: 43 },
      ],
      last: true,
      errno: 0,
    });
    assert.equal(decodeFilterDump(filter(7, 1, 42)).last, false);
  });

  it('can be the kernel’s refusal', () => {
    assert.deepEqual(decodeFilterDump(message(ERROR, word(-19))), { filters: [], last: true, errno: 19 });
  });

  it('asks for what fits its own lengths', () => {
    const request = encodeFilterDump(5, 0xffff_fff2);
    assert.equal(request.readUInt32LE(0), request.length);
  });

  it('that is cut short anywhere but between messages is an error', () => {
    const whole = Buffer.concat([filter(7, 1, 42), filter(9, 2, 43)]);
    for (let size = 1; size < whole.length; size++) {
      if (size === whole.length / 2) continue;
      assert.throws(() => decodeFilterDump(whole.subarray(0, size)), NetlinkError, `${size} bytes`);
    }
  });

  it('never tells what stands behind it, and never ends otherwise than by a value or a NetlinkError', (t) => {
    const whole = Buffer.concat([filter(7, 1, 42), filter(9, 2, 43), message(ERROR, word(-1))]);
    const change = fc.tuple(fc.nat(whole.length - 1), fc.nat(255));
    const property = fc.property(fc.array(change, { maxLength: 6 }), fc.nat(whole.length), (changes, size) => {
      const bytes = Buffer.from(whole);
      for (const [at, value] of changes) bytes[at] = value;
      const read = (poison: number): unknown => {
        const room = Buffer.alloc(whole.length + 4096, poison);
        bytes.copy(room, 0, 0, size);
        room.fill(poison, size);
        try {
          return decodeFilterDump(room.subarray(0, size));
        } catch (error) {
          assert.ok(error instanceof NetlinkError, String(error));
          return error.message;
        }
      };
      assert.deepEqual(read(POISON), read(~POISON & 0xff));
    });
    holds(t, property, 5000);
  });
});

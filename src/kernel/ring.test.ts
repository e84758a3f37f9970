// The ring's records, read within what was written, whatever their headers say.
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import fc from 'fast-check';
import { holds } from '#test/support/property.ts';
import { RingError, RingReader } from './ring.ts';

const SIZE = 256;
const BUSY = 0x8000_0000;
const DISCARD = 0x4000_0000;

class Model {
  readonly consumer = new ArrayBuffer(8);
  readonly producer = new ArrayBuffer(8);
  readonly data: Uint8Array<ArrayBuffer> = new Uint8Array(2 * SIZE);
  readonly reader: RingReader = new RingReader(this.consumer, this.producer, this.data, SIZE);

  set consumed(at: bigint) {
    new BigUint64Array(this.consumer)[0] = at;
  }
  get consumed(): bigint {
    return new BigUint64Array(this.consumer)[0] ?? 0n;
  }
  set produced(at: bigint) {
    new BigUint64Array(this.producer)[0] = at;
  }

  /** Both copies, as the kernel's two mappings of the same pages. */
  header(at: number, value: number): void {
    const view = new DataView(this.data.buffer);
    for (const copy of [0, SIZE]) view.setUint32(copy + (at % SIZE), value >>> 0, true);
  }

  read(): readonly number[] {
    const lengths: number[] = [];
    this.reader.drain((record) => lengths.push(record.length));
    return lengths;
  }
}

function modelAt(start: bigint, records: readonly number[]): Model {
  const model = new Model();
  model.consumed = start;
  let at = start;
  for (const header of records) {
    model.header(Number(at % BigInt(SIZE)), header);
    at += BigInt(Math.ceil(((header & ~(BUSY | DISCARD)) + 8) / 8) * 8);
  }
  model.produced = at;
  return model;
}

describe('a ring', () => {
  it('gives whole records in order, also over its end, and leaves out what was discarded', () => {
    const model = modelAt(BigInt(SIZE * 1000 - 16), [40, 24 | DISCARD, 12]);
    assert.deepEqual(model.read(), [40, 12]);
    assert.deepEqual(model.read(), []);
  });

  it('stops at a record that is being written', () => {
    const model = modelAt(0n, [8, 8 | BUSY, 8]);
    assert.deepEqual(model.read(), [8]);
    assert.equal(model.consumed, 16n);
  });

  it('of contradictory positions is an error, and is left as it is', () => {
    for (const [consumed, produced] of [
      [16n, 8n],
      [0n, BigInt(SIZE) + 8n],
      [0n, 2n ** 63n],
    ] as const) {
      const model = new Model();
      model.consumed = consumed;
      model.produced = produced;
      assert.throws(() => model.read(), RingError);
      assert.equal(model.consumed, consumed);
    }
  });

  it('with a record that reaches beyond what was written is an error', () => {
    const model = modelAt(0n, [8]);
    model.header(0, 64);
    assert.throws(() => model.read(), /a record of 64 bytes, and 16 are ready/);
  });

  it('does not meet a record twice that its reader could not take', () => {
    const model = modelAt(0n, [8, 16]);
    assert.throws(() =>
      model.reader.drain(() => {
        throw new Error('no');
      }),
    );
    assert.deepEqual(model.read(), [16]);
  });

  it('of random headers and positions gives what fits, or a RingError, and always ends', (t: TestContext) => {
    const property = fc.property(
      fc.uint8Array({ minLength: SIZE, maxLength: SIZE }),
      fc.bigInt({ min: 0n, max: 2n ** 40n }),
      fc.nat(2 * SIZE),
      (bytes, start, ready) => {
        const model = new Model();
        model.data.set(bytes);
        model.data.set(bytes, SIZE);
        model.consumed = start & ~7n;
        model.produced = (start & ~7n) + BigInt(ready);
        try {
          model.reader.drain((record) => assert.ok(record.length <= SIZE));
        } catch (error) {
          assert.ok(error instanceof RingError, String(error));
        }
        assert.ok(model.consumed - (start & ~7n) <= BigInt(ready));
      },
    );
    holds(t, property, 5000);
  });
});

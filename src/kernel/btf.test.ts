// What the kernel says of types ends in a layout or in a BtfError, whatever is in it: circles, numbers and counts of nothing.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import koffi from 'koffi';
import { holds } from '#test/support/property.ts';
import { BtfError, type Layout, layoutOf } from './btf.ts';

const lib = koffi.load('libbpf.so.1');
const take = lib.func('void *btf__new(const void *data, uint32_t size)');
const free = lib.func('void btf__free(void *btf)');

// What libbpf would say of bytes that it does not take, on stderr.
lib.func('void *libbpf_set_print(void *callback)')(null);

const KIND = { int: 1, array: 3, struct: 4, typedef: 8 } as const;
const MAGIC = 0xeb9f;

/** A type: kind, count, size or type, name, and the words that follow. */
type Written = {
  readonly kind: number;
  readonly name?: string;
  readonly size: number;
  readonly count?: number;
  readonly rest?: readonly number[];
};

function words(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [index, value] of values.entries()) bytes.writeUInt32LE(value >>> 0, 4 * index);
  return bytes;
}

/** Types as <linux/btf.h> lays them out; the first one has number 1. `names`: those of members, at what `at` says. */
function written(types: (at: (name: string) => number) => readonly Written[]): Buffer {
  let strings = '\0';
  const at = (name: string): number => {
    if (name === '') return 0;
    strings += `${name}\0`;
    return strings.length - name.length - 1;
  };
  const body = types(at).map(({ kind, name = '', size, count = 0, rest = [] }) =>
    words(at(name), (kind << 24) | count, size, ...rest),
  );
  const section = Buffer.concat(body);
  const header = Buffer.concat([Buffer.alloc(4), words(24, 0, section.length, section.length, strings.length)]);
  header.writeUInt16LE(MAGIC, 0);
  header.writeUInt8(1, 2);
  return Buffer.concat([header, section, Buffer.from(strings)]);
}

const INT: Written = { kind: KIND.int, name: 'u32', size: 4, rest: [32] };

const EMPTY: Written = { kind: KIND.struct, size: 0 };

/** struct pair { u32 w[2]; word last; struct { u32 inner; }; u32 pad; }, where `word` is an alias. */
const WHOLE: Buffer = written((at) => [
  INT,
  { kind: KIND.typedef, name: 'word', size: 1 },
  { kind: KIND.array, size: 0, rest: [1, 1, 2] },
  { kind: KIND.struct, size: 4, count: 1, rest: [at('inner'), 1, 0] },
  {
    ...{ kind: KIND.struct, name: 'pair', size: 20, count: 4 },
    rest: [at('w'), 3, 0, at('last'), 2, 64, 0, 4, 96, at('pad'), 1, 128],
  },
]);

/** The layout of type `id`; null where libbpf does not take these bytes for types. */
function read(bytes: Uint8Array, id: number): Layout | null {
  const btf: unknown = take(bytes, bytes.length);
  if (!btf) return null;
  try {
    return layoutOf(btf, id);
  } finally {
    free(btf);
  }
}

describe('types of the kernel', () => {
  it('are read field by field, without padding', () => {
    assert.deepEqual(read(WHOLE, 5), {
      name: 'pair',
      fields: new Map([
        ['w[0]', { offset: 0, size: 4 }],
        ['w[1]', { offset: 4, size: 4 }],
        ['last', { offset: 8, size: 4 }],
        ['inner', { offset: 12, size: 4 }],
      ]),
    });
  });

  it('that go round in circles, are without end or are not there are an error', () => {
    const member = (type: number): Written => ({ kind: KIND.struct, size: 4, count: 1, rest: [0, type, 0] });
    // Of two halves each, and nothing at the bottom.
    const twice = (type: number): Written => ({ kind: KIND.struct, size: 0, count: 2, rest: [0, type, 0, 0, type, 0] });
    const array = (count: number): Written => ({ kind: KIND.array, size: 0, rest: [1, 1, count] });
    const circles: readonly (readonly [RegExp, readonly Written[]])[] = [
      [/alias of an alias/, [INT, { kind: KIND.typedef, name: 'self', size: 2 }]],
      [/nested/, [INT, member(2)]],
      [/4294967295 elements/, [INT, array(0xffff_ffff)]],
      [/more than 8192 parts/, [INT, { kind: KIND.array, size: 0, rest: [3, 1, 5000] }, array(2)]],
      [/more than 8192 parts/, [INT, ...Array.from({ length: 30 }, (_, index) => twice(index + 3)), EMPTY]],
      [/no number 77/, [INT, member(77)]],
      [/type 0 has no size/, [INT, member(0)]],
      [/of bits/, [INT, { kind: KIND.struct, size: 4, count: 1, rest: [0, 1, 3] }]],
      [/no name at/, [INT, { kind: KIND.struct, size: 4, count: 1, rest: [0x7fff_ffff, 1, 0] }]],
    ];
    for (const [message, types] of circles) {
      assert.throws(
        () =>
          read(
            written(() => types),
            2,
          ),
        { name: 'BtfError', message },
      );
    }
  });

  it('of random and cut bytes give a layout or a BtfError', (t) => {
    const value = fc.oneof(fc.nat(8), fc.nat(255), fc.constantFrom(0xff, 0x7f, 0x80));
    const change = fc.tuple(fc.integer({ min: 24, max: WHOLE.length - 1 }), value);
    let taken = 0;
    const property = fc.property(
      fc.array(change, { maxLength: 4 }),
      fc.oneof({ weight: 9, arbitrary: fc.constant(WHOLE.length) }, fc.nat(WHOLE.length)),
      (changes, size) => {
        const bytes = Buffer.from(WHOLE);
        for (const [at, byte] of changes) bytes[at] = byte;
        for (let id = 0; id < 7; id++) {
          try {
            if (read(bytes.subarray(0, size), id) !== null) taken++;
          } catch (error) {
            assert.ok(error instanceof BtfError, String(error));
          }
        }
      },
    );
    holds(t, property, 2000);
    assert.ok(taken > 100, `${taken} were layouts`);
  });
});

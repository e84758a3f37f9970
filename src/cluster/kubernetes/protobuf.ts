// Protocol Buffers, as far as an agent reads them: the fields that a shape names, as JSON would have them; all others are
// passed over unread. Wire format: protobuf.dev/programming-guides/encoding. Pure.
import type { Fields } from '#policy/fields.ts';

/**
 * What is read of a message, by the numbers of its fields. `text`, `whole` (int32, int64: up to 2^53, and -1 for all below zero) and `flag` are
 * left out where they have their type's zero value, as the API leaves them out of JSON. `texts` is a map of text to text, `bytes` a view of the input.
 */
export type Shape = { readonly [number: number]: Field };
export type Field = { readonly name: string } & (
  | { readonly type: 'text' | 'whole' | 'flag' | 'texts' | 'bytes' }
  | { readonly type: 'message' | 'messages'; readonly shape: Shape }
);

/** The input is no message of the shape: cut off, or of other types. */
export class ProtobufError extends Error {
  constructor(message: string) {
    super(`no protobuf of the kind expected: ${message}`);
    this.name = 'ProtobufError';
  }
}

const VARINT = 0;
const EIGHT_BYTES = 1;
const DELIMITED = 2;
const FOUR_BYTES = 5;
/** Ten groups of seven bits hold 64. */
const LONGEST_VARINT = 10;

const ENTRY: Shape = { 1: { name: 'key', type: 'text' }, 2: { name: 'value', type: 'text' } };

/** Reads a whole message. Throws ProtobufError. */
export function readMessage(input: Buffer, shape: Shape): Fields {
  return new Reader(input).message(shape, input.length);
}

/** One pass over one input. */
class Reader {
  readonly #input: Buffer;
  #at = 0;

  constructor(input: Buffer) {
    this.#input = input;
  }

  message(shape: Shape, end: number): Fields {
    const fields: Record<string, unknown> = {};
    while (this.#at < end) {
      const tag = this.#varint();
      const wire = tag % 8;
      const field = shape[Math.floor(tag / 8)];
      if (field === undefined) this.#skip(wire, end);
      else this.#take(fields, field, wire, end);
      if (this.#at > end) throw new ProtobufError('a field is longer than what it is in');
    }
    return fields;
  }

  #take(fields: Record<string, unknown>, field: Field, wire: number, end: number): void {
    const { name, type } = field;
    if (wire !== (type === 'whole' || type === 'flag' ? VARINT : DELIMITED)) {
      throw new ProtobufError(`${name} has the wire type ${wire}`);
    }
    const value = this.#varint();
    if (type === 'whole') {
      // Negative ones take all 64 bits; none means anything here, so which one it is is not kept.
      if (value !== 0) fields[name] = value < 2 ** 63 ? value : -1;
    } else if (type === 'flag') {
      if (value !== 0) fields[name] = true;
    } else {
      const to = this.#at + value;
      if (to > end) throw new ProtobufError(`${name} is longer than what it is in`);
      this.#takeDelimited(fields, field, to);
    }
  }

  #takeDelimited(fields: Record<string, unknown>, field: Field, to: number): void {
    const { name } = field;
    switch (field.type) {
      case 'text':
        if (to > this.#at) fields[name] = this.#text(to);
        break;
      case 'texts': {
        const { key = '', value = '' } = this.message(ENTRY, to);
        fields[name] ??= {};
        // As JSON.parse does: a key of any name is the object's own.
        Object.defineProperty(fields[name], String(key), {
          value,
          enumerable: true,
          configurable: true,
          writable: true,
        });
        break;
      }
      case 'bytes':
        fields[name] = this.#input.subarray(this.#at, to);
        break;
      case 'message':
        fields[name] = this.message(field.shape, to);
        break;
      case 'messages': {
        fields[name] ??= [];
        (fields[name] as Fields[]).push(this.message(field.shape, to));
        break;
      }
      default:
        throw new ProtobufError(`${name} is not delimited`);
    }
    this.#at = to;
  }

  #text(to: number): string {
    return this.#input.toString('utf8', this.#at, to);
  }

  #skip(wire: number, end: number): void {
    if (wire === VARINT) this.#varint();
    else if (wire === EIGHT_BYTES) this.#at += 8;
    else if (wire === FOUR_BYTES) this.#at += 4;
    else if (wire === DELIMITED) {
      const length = this.#varint();
      this.#at += length;
    } else throw new ProtobufError(`there is no wire type ${wire} in it`);
    if (this.#at > end) throw new ProtobufError('a field is longer than what it is in');
  }

  /** Exact up to 2^53. */
  #varint(): number {
    let value = 0;
    for (let index = 0, unit = 1; index < LONGEST_VARINT; index++, unit *= 128) {
      const byte = this.#input[this.#at++];
      if (byte === undefined) throw new ProtobufError('it is cut off');
      value += (byte & 127) * unit;
      if (byte < 128) return value;
    }
    throw new ProtobufError('a number has no end');
  }
}

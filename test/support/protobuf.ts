// Messages written as a shape names their fields: what a test sends in an API server's place. Groups of seven bits, lowest first.
import type { Field, Shape } from '#cluster/kubernetes/protobuf.ts';
import { type Fields, fieldsOf, itemsOf } from '#policy/fields.ts';

const MAGIC = Buffer.from('k8s\0');

/** The fields that a shape names, with others in between that no shape has. */
export function encodeMessage(shape: Shape, fields: Fields, strange: readonly Buffer[] = []): Buffer {
  const parts = Object.entries(shape).flatMap(([number, field]) => encodeField(Number(number), field, fields));
  return Buffer.concat(
    parts.flatMap((part, index) => [strange[index % Math.max(1, strange.length)] ?? Buffer.alloc(0), part]),
  );
}

function encodeField(number: number, field: Field, fields: Fields): readonly Buffer[] {
  const value = Object.hasOwn(fields, field.name) ? fields[field.name] : undefined;
  if (value === undefined) return [];
  switch (field.type) {
    case 'text':
      return [delimited(number, Buffer.from(String(value)))];
    case 'bytes':
      return [delimited(number, value as Buffer)];
    case 'whole':
    case 'flag':
      return [Buffer.concat([varint(BigInt(number * 8)), varint(BigInt.asUintN(64, BigInt(Number(value))))])];
    case 'texts':
      return Object.entries(fieldsOf(value)).map(([key, text]) =>
        delimited(number, Buffer.concat([delimited(1, Buffer.from(key)), delimited(2, Buffer.from(String(text)))])),
      );
    case 'message':
      return [delimited(number, encodeMessage(field.shape, fieldsOf(value)))];
    case 'messages':
      return itemsOf(value).map((item) => delimited(number, encodeMessage(field.shape, fieldsOf(item))));
  }
}

/** As an API server sends an object. */
export function wireObject(apiVersion: string, kind: string, raw: Buffer): Buffer {
  const typeMeta = Buffer.concat([delimited(1, Buffer.from(apiVersion)), delimited(2, Buffer.from(kind))]);
  return Buffer.concat([MAGIC, delimited(1, typeMeta), delimited(2, raw), delimited(3, Buffer.alloc(0))]);
}

/** As an API server sends a change. */
export function wireChange(type: string, object: Buffer): Buffer {
  const change = Buffer.concat([delimited(1, Buffer.from(type)), delimited(2, delimited(1, object))]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(change.length);
  return Buffer.concat([length, change]);
}

export function delimited(number: number, bytes: Buffer): Buffer {
  return Buffer.concat([varint(BigInt(number * 8 + 2)), varint(BigInt(bytes.length)), bytes]);
}

export function varint(value: bigint): Buffer {
  const bytes: number[] = [];
  let left = value;
  for (; left > 127n; left >>= 7n) bytes.push(Number(left & 127n) | 128);
  return Buffer.from([...bytes, Number(left)]);
}

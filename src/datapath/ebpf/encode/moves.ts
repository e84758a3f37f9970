// From one layout of a struct to another: which bytes go where. Fields are the same where their names are. Pure.
import { MOVE } from './abi.gen.ts';

/** Bytes of a struct: where they stand, where they go. */
export type Move = { readonly from: number; readonly into: number; readonly size: number };

type Fields = ReadonlyMap<string, { readonly offset: number; readonly size: number }>;

/** EARLIER_MOVES of bpf/abi.h. */
const MOVES = 16;

/** Fields that both have, at the same size; neighbours move together. Throws Error where that takes too many moves. */
export function movesBetween(from: Fields, into: Fields): readonly Move[] {
  const single = [...into].flatMap(([name, { offset, size }]): Move[] => {
    const source = from.get(name);
    return source?.size === size ? [{ from: source.offset, into: offset, size }] : [];
  });
  const merged: Move[] = [];
  for (const move of single.sort((a, b) => a.into - b.into)) {
    const last = merged.at(-1);
    const follows = last !== undefined && last.from + last.size === move.from && last.into + last.size === move.into;
    if (follows) merged[merged.length - 1] = { ...last, size: last.size + move.size };
    else merged.push(move);
  }
  if (merged.length > MOVES) throw new Error(`the layouts differ in too many places (${merged.length})`);
  return merged;
}

/** struct move[], for a knob. */
export function encodeMoves(moves: readonly Move[]): Uint8Array {
  const bytes = new Uint8Array(MOVES * MOVE.size);
  const view = new DataView(bytes.buffer);
  for (const [index, { from, into, size }] of moves.entries()) {
    view.setUint16(index * MOVE.size + MOVE.from, from, true);
    view.setUint16(index * MOVE.size + MOVE.into, into, true);
    view.setUint16(index * MOVE.size + MOVE.length, size, true);
  }
  return bytes;
}

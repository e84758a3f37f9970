// Values that are many, much alike, and seldom looked at, as short texts: what they have in common is kept once.

import { remember } from '#identity/collect.ts';

/** What values are alike in: everything but their texts and numbers. */
type Shape = { readonly text: string; uses: number };

/** A value put away: its shape, and each text and number of it once, in the order in which they come. */
export type Packed = { readonly shape: Shape; readonly leaves: string };

/** Texts under these keys are words of the model: there are few of them. */
const WORDS: ReadonlySet<string> = new Set(['kind', 'op', 'action', 'dialect', 'end']);

export class Packer {
  readonly #shapes = new Map<string, Shape>();
  /** Names of fields, and words: as few as the model has. */
  readonly #quoted = new Map<string, string>();

  /** Packs plain data: what JSON can say. */
  pack(value: object): Packed {
    const leaves = new Map<unknown, number>();
    const text = this.#shapeOf(value, leaves);
    const shape = this.#shapes.get(text) ?? { text, uses: 0 };
    this.#shapes.set(text, shape);
    shape.uses++;
    return { shape, leaves: JSON.stringify([...leaves.keys()]) };
  }

  /** What was packed, made anew. The packed form is of no more use. */
  unpack<Value>(packed: Packed): Value {
    this.drop(packed);
    return this.read(packed);
  }

  /** What was packed, made anew; it stays packed as well. */
  read<Value>({ shape, leaves }: Packed): Value {
    const known = JSON.parse(leaves) as readonly unknown[];
    return JSON.parse(shape.text, (_, value: unknown) => (typeof value === 'number' ? known[value] : value)) as Value;
  }

  /** The packed form is of no more use. */
  drop({ shape }: Packed): void {
    shape.uses--;
    if (shape.uses === 0) this.#shapes.delete(shape.text);
  }

  /** JSON with the number of a leaf in the place of each text and number. */
  #shapeOf(value: unknown, leaves: Map<unknown, number>, key = ''): string {
    if (typeof value === 'string' && WORDS.has(key)) return this.#quote(value);
    if (typeof value === 'string' || typeof value === 'number') {
      const found = leaves.get(value);
      if (found !== undefined) return String(found);
      leaves.set(value, leaves.size);
      return String(leaves.size - 1);
    }
    if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
    let text = '';
    if (Array.isArray(value)) {
      for (const each of value) text += `${text === '' ? '[' : ','}${this.#shapeOf(each, leaves)}`;
      return text === '' ? '[]' : `${text}]`;
    }
    const fields = value as Readonly<Record<string, unknown>>;
    for (const name of Object.keys(fields)) {
      const each = fields[name];
      if (each === undefined) continue;
      text += `${text === '' ? '{' : ','}${this.#quote(name)}:${this.#shapeOf(each, leaves, name)}`;
    }
    return text === '' ? '{}' : `${text}}`;
  }

  #quote(word: string): string {
    return remember(this.#quoted, word, JSON.stringify);
  }
}

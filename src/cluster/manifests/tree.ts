// YAML events → plain values, and the line of every mapping, key and item. Bounded: aliases can not blow it up.
import { EVENT_ID, type Event, getScalarValue, SCALAR_STYLE } from 'js-yaml';
import { show } from '#policy/fields.ts';
import type { ManifestCode } from './diagnostics.ts';
import { LineCursor } from './lines.ts';
import { resolveNumber, resolvePlain, type Scalar } from './scalar.ts';

/** Lines of a collection: of itself, and of each key or item in the order of `keys`. */
export type Place = { line: number; readonly keys: (string | number)[]; readonly lines: number[] };

/** One document of a stream. `places` has every mapping and list in it. */
export type Tree = { readonly value: unknown; readonly places: ReadonlyMap<object, Place> };

/** A document that can not be built; the reader of the file turns it into a diagnostic. */
export class TreeError extends Error {
  readonly code: ManifestCode;
  readonly line: number;

  constructor(code: ManifestCode, line: number, message: string) {
    super(message);
    this.code = code;
    this.line = line;
  }
}

/** How many nodes the aliases of one part of a stream may stand for: real manifests need a few hundred. */
const MAX_ALIASED_NODES = 100_000;

const TEXT_PER_NODE = 256;

type Anchor = { readonly value: unknown; size: number; open: boolean };
type Frame = {
  readonly value: Record<string, unknown> | unknown[];
  readonly place: Place;
  readonly anchor: Anchor | null;
  readonly before: number;
  key: string | null;
  keyLine: number;
  /** Keys that a merge brought, which the mapping's own keys replace. */
  merged: Set<string> | null;
};

type Text = { readonly source: string; readonly firstLine: number };

/** Builds the documents that the events of a text stand for. Throws TreeError. */
export function buildTrees(events: readonly Event[], text: Text): readonly Tree[] {
  return new Builder(text).build(events);
}

class Builder {
  readonly #source: string;
  readonly #lines: LineCursor;
  readonly #places = new Map<object, Place>();
  readonly #anchors = new Map<string, Anchor>();
  readonly #frames: Frame[] = [];
  readonly #trees: Tree[] = [];
  #root: unknown = null;
  #line: number;
  /** Nodes so far, those behind aliases included. */
  #nodes = 0;
  #aliased = 0;

  constructor(text: Text) {
    this.#source = text.source;
    this.#line = text.firstLine;
    this.#lines = new LineCursor(text.source, text.firstLine);
  }

  build(events: readonly Event[]): readonly Tree[] {
    for (const event of events) this.#take(event);
    return this.#trees;
  }

  #take(event: Event): void {
    if (event.type === EVENT_ID.SCALAR) this.#scalar(event);
    else if (event.type === EVENT_ID.MAPPING) this.#open({}, event);
    else if (event.type === EVENT_ID.SEQUENCE) this.#open([], event);
    else if (event.type === EVENT_ID.ALIAS) this.#alias(event);
    else if (event.type === EVENT_ID.POP) this.#close();
    // What is left is the start of a document: anchors end with theirs.
    else this.#anchors.clear();
  }

  #scalar(event: Extract<Event, { type: typeof EVENT_ID.SCALAR }>): void {
    if (event.valueStart >= 0) this.#line = this.#lines.at(event.valueStart);
    const text = getScalarValue(this.#source, event);
    const frame = this.#frames.at(-1);
    const plain = event.style === SCALAR_STYLE.PLAIN;
    const wantsKey = frame !== undefined && !Array.isArray(frame.value) && frame.key === null;
    if (wantsKey && plain && event.tagStart < 0 && text === '<<') {
      frame.key = MERGE;
      frame.keyLine = this.#line;
      return;
    }
    const value = event.tagStart < 0 ? (plain ? resolvePlain(text) : text) : this.#tagged(event, text);
    // Long texts count as more than one value: an alias of a megabyte must not stand for it 100 000 times.
    const size = 1 + Math.floor(text.length / TEXT_PER_NODE);
    this.#nodes += size;
    if (event.anchorStart >= 0) this.#anchors.set(this.#name(event), { value, size, open: false });
    this.#put(value);
  }

  #tagged(event: { tagStart: number; tagEnd: number }, text: string): Scalar {
    const tag = this.#source.slice(event.tagStart, event.tagEnd);
    const value = taggedScalar(tag, text);
    if (value === undefined) throw this.#error('yaml-tag', `the tag ${tag} is not understood for this value`);
    return value;
  }

  #open(
    value: Record<string, unknown> | unknown[],
    event: { start: number; anchorStart: number; anchorEnd: number; tagStart: number; tagEnd: number },
  ): void {
    this.#line = this.#lines.at(event.start);
    const tag = event.tagStart < 0 ? '' : this.#source.slice(event.tagStart, event.tagEnd);
    if (tag !== '' && tag !== '!' && tag !== (Array.isArray(value) ? '!!seq' : '!!map')) {
      throw this.#error('yaml-tag', `the tag ${tag} is not understood for this value`);
    }
    const place: Place = { line: this.#line, keys: [], lines: [] };
    this.#places.set(value, place);
    const anchor = event.anchorStart < 0 ? null : { value, size: 0, open: true };
    if (anchor !== null) this.#anchors.set(this.#name(event), anchor);
    this.#frames.push({ value, place, anchor, before: this.#nodes, key: null, keyLine: 0, merged: null });
  }

  #close(): void {
    const frame = this.#frames.pop();
    if (frame === undefined) {
      this.#trees.push({ value: this.#root, places: this.#places });
      this.#root = null;
      return;
    }
    this.#nodes++;
    if (frame.anchor !== null) {
      frame.anchor.size = this.#nodes - frame.before;
      frame.anchor.open = false;
    }
    this.#put(frame.value);
  }

  #alias(event: { anchorStart: number; anchorEnd: number }): void {
    this.#line = this.#lines.at(event.anchorStart);
    const name = this.#name(event);
    const anchor = this.#anchors.get(name);
    if (anchor === undefined) throw this.#error('yaml-alias', `the alias *${name} names no anchor before it`);
    if (anchor.open) throw this.#error('yaml-alias', `the alias *${name} stands inside its own anchor`);
    this.#aliased += anchor.size;
    this.#nodes += anchor.size;
    if (this.#aliased > MAX_ALIASED_NODES) {
      throw this.#error('yaml-too-large', `the aliases stand for more than ${MAX_ALIASED_NODES} values`);
    }
    this.#put(anchor.value);
  }

  /** Gives a finished value to the collection that is open. */
  #put(value: unknown): void {
    const frame = this.#frames.at(-1);
    if (frame === undefined) {
      this.#root = value;
    } else if (Array.isArray(frame.value)) {
      frame.place.keys.push(frame.value.length);
      frame.place.lines.push(this.#lineOf(value));
      frame.value.push(value);
    } else if (frame.key === null) {
      frame.key = this.#keyText(value);
      frame.keyLine = this.#line;
    } else {
      const key = frame.key;
      frame.key = null;
      if (key === MERGE) this.#merge(frame, value);
      else this.#field(frame, frame.value, { key, value });
    }
  }

  #field(frame: Frame, target: Record<string, unknown>, field: { key: string; value: unknown }): void {
    if (Object.hasOwn(target, field.key) && frame.merged?.delete(field.key) !== true) {
      throw new TreeError(
        'yaml-duplicate-key',
        frame.keyLine,
        `the key ${show(field.key)} stands twice in one mapping`,
      );
    }
    this.#set(frame, target, field, frame.keyLine);
  }

  #merge(frame: Frame, value: unknown): void {
    for (const source of Array.isArray(value) ? value : [value]) {
      const place = isMapping(source) ? this.#places.get(source) : undefined;
      if (!isMapping(source) || place === undefined) {
        throw this.#error('yaml-merge', 'the merge key << takes a mapping, or a list of mappings');
      }
      for (const [index, key] of place.keys.entries()) this.#mergeKey(frame, source, `${key}`, place.lines[index] ?? 0);
    }
  }

  #mergeKey(frame: Frame, source: Record<string, unknown>, key: string, line: number): void {
    const target = frame.value;
    if (Array.isArray(target) || Object.hasOwn(target, key)) return;
    frame.merged ??= new Set();
    frame.merged.add(key);
    this.#set(frame, target, { key, value: source[key] }, line);
  }

  #set(frame: Frame, target: Record<string, unknown>, field: { key: string; value: unknown }, line: number): void {
    frame.place.keys.push(field.key);
    frame.place.lines.push(line);
    if (field.key === '__proto__') {
      // Assignment would change the prototype instead of making a field.
      Object.defineProperty(target, field.key, { value: field.value, enumerable: true, writable: true });
    } else {
      target[field.key] = field.value;
    }
  }

  #keyText(value: unknown): string {
    if (typeof value === 'string') return value;
    if (typeof value === 'number' || typeof value === 'boolean') return String(value);
    throw this.#error('yaml-key', 'a key is empty or is no simple value');
  }

  #lineOf(value: unknown): number {
    return typeof value === 'object' && value !== null ? (this.#places.get(value)?.line ?? this.#line) : this.#line;
  }

  #name(event: { anchorStart: number; anchorEnd: number }): string {
    return this.#source.slice(event.anchorStart, event.anchorEnd);
  }

  #error(code: ManifestCode, message: string): TreeError {
    return new TreeError(code, this.#line, message);
  }
}

/** Stands for a merge key until its value is there; no key of a file is this very text (it holds a NUL). */
const MERGE = '\0<<';

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The value of a scalar with an explicit tag; undefined where the tag is not understood or does not fit. */
function taggedScalar(tag: string, text: string): Scalar | undefined {
  const plain = resolvePlain(text);
  switch (tag) {
    case '!':
    case '!!str':
    case '!!timestamp':
      return text;
    case '!!int':
      return Number.isInteger(resolveNumber(text)) ? resolveNumber(text) : undefined;
    case '!!float':
      return resolveNumber(text) ?? undefined;
    case '!!bool':
      return typeof plain === 'boolean' ? plain : undefined;
    case '!!null':
      return plain === null ? null : undefined;
    default:
      return undefined;
  }
}

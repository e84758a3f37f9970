// Lists sorted by a key, of which a changed one shares all but a few items' room with the one before: what is the same
// in both is passed by when they are compared.

/** `serial` stands for the item in the list's hash. */
type Serial = { readonly serial: number };

/** What of two lists is not in both. */
export type Difference<Item> = { readonly gone: readonly Item[]; readonly come: readonly Item[] };

type Chunk<Item> = readonly Item[];

/** Items are kept in pieces of up to so many. */
const CHUNK = 32;
/** More changes than this are not made one by one. */
const FEW = 64;

/** Immutable. Keys are unique; an item's may change as long as no two items change their order. */
export class SortedList<Item extends Serial> {
  /** How many items there are. */
  readonly size: number;
  /** Equal for lists whose items have the same serials, and seldom for others. */
  readonly hash: number;
  readonly #keyOf: (item: Item) => number;
  readonly #chunks: readonly Chunk<Item>[];

  private constructor(
    keyOf: (item: Item) => number,
    chunks: readonly Chunk<Item>[],
    sums: { size: number; hash: number },
  ) {
    this.#keyOf = keyOf;
    this.#chunks = chunks;
    this.size = sums.size;
    this.hash = sums.hash;
  }

  /** The list of these items, in whatever order they come. */
  static of<Item extends Serial>(keyOf: (item: Item) => number, items: Iterable<Item> = []): SortedList<Item> {
    const sorted = [...items].sort((a, b) => keyOf(a) - keyOf(b));
    const chunks: Item[][] = [];
    // Half full: the next items find room.
    for (let at = 0; at < sorted.length; at += CHUNK / 2) chunks.push(sorted.slice(at, at + CHUNK / 2));
    const hash = sorted.reduce((sum, item) => (sum + saltOf(item)) | 0, 0);
    return new SortedList(keyOf, chunks, { size: sorted.length, hash });
  }

  /** The item with a key. */
  at(key: number): Item | undefined {
    const chunk = this.#chunks[this.#chunkOf(key)] ?? [];
    const item = chunk[this.#indexIn(chunk, key)];
    return item !== undefined && this.#keyOf(item) === key ? item : undefined;
  }

  has(item: Item): boolean {
    return this.at(this.#keyOf(item)) === item;
  }

  /** The first item; undefined in an empty list. */
  get first(): Item | undefined {
    return this.#chunks[0]?.[0];
  }

  /** The list with an item in its place, instead of the one that has the same key. */
  with(item: Item): SortedList<Item> {
    const key = this.#keyOf(item);
    const where = Math.min(this.#chunkOf(key), Math.max(0, this.#chunks.length - 1));
    const chunk = this.#chunks[where] ?? [];
    const index = this.#indexIn(chunk, key);
    const before = chunk[index];
    if (before === item) return this;
    const replaces = before !== undefined && this.#keyOf(before) === key;
    const hash = this.hash + saltOf(item) - (replaces ? saltOf(before) : 0);
    const now = chunk.toSpliced(index, replaces ? 1 : 0, item);
    const pieces = now.length > CHUNK ? [now.slice(0, CHUNK / 2), now.slice(CHUNK / 2)] : [now];
    const chunks = this.#chunks.toSpliced(where, 1, ...pieces);
    return new SortedList(this.#keyOf, chunks, { size: this.size + (replaces ? 0 : 1), hash: hash | 0 });
  }

  /** The list after several changes: first the items of some keys go, then others come. */
  edited(gone: readonly number[], come: readonly Item[]): SortedList<Item> {
    if (gone.length + come.length > FEW) return this.#rebuilt(gone, come);
    let list: SortedList<Item> = this;
    for (const key of gone) list = list.without(key);
    for (const item of come) list = list.with(item);
    return list;
  }

  #rebuilt(gone: readonly number[], come: readonly Item[]): SortedList<Item> {
    const items = new Map<number, Item>();
    for (const item of this) items.set(this.#keyOf(item), item);
    for (const key of gone) items.delete(key);
    for (const item of come) items.set(this.#keyOf(item), item);
    return SortedList.of(this.#keyOf, items.values());
  }

  /** The list without the item that has a key. */
  without(key: number): SortedList<Item> {
    const item = this.at(key);
    if (item === undefined) return this;
    const where = this.#chunkOf(key);
    const chunk = this.#chunks[where] ?? [];
    const now = chunk.toSpliced(this.#indexIn(chunk, key), 1);
    const chunks = this.#chunks.toSpliced(where, 1, ...(now.length === 0 ? [] : [now]));
    return new SortedList(this.#keyOf, chunks, { size: this.size - 1, hash: (this.hash - saltOf(item)) | 0 });
  }

  /** True where the test holds for each item. */
  every(test: (item: Item) => boolean): boolean {
    return this.#chunks.every((chunk) => chunk.every(test));
  }

  *[Symbol.iterator](): Generator<Item> {
    for (const chunk of this.#chunks) yield* chunk;
  }

  /** True where two lists have the same items, in the eyes of `same`: it holds for what is one and the same. */
  equals(other: SortedList<Item>, same: (one: Item, other: Item) => boolean = Object.is): boolean {
    if (this === other) return true;
    if (this.size !== other.size || this.hash !== other.hash) return false;
    const mine = new Cursor(this.#chunks);
    const theirs = new Cursor(other.#chunks);
    for (skipShared(mine, theirs); ; skipShared(mine, theirs)) {
      const one = mine.item;
      const two = theirs.item;
      if (one === undefined || two === undefined) return one === two;
      if (!same(one, two)) return false;
      mine.next();
      theirs.next();
    }
  }

  /** What of a list before is not in this one, and what of this one was not in that. */
  since(before: SortedList<Item>): Difference<Item> {
    const gone: Item[] = [];
    const come: Item[] = [];
    const old = new Cursor(before.#chunks);
    const now = new Cursor(this.#chunks);
    for (skipShared(old, now); ; skipShared(old, now)) {
      const one = old.item;
      const two = now.item;
      if (one === two && one !== undefined) {
        old.next();
        now.next();
        continue;
      }
      if (one === undefined && two === undefined) return { gone, come };
      const order = one === undefined ? 1 : two === undefined ? -1 : this.#keyOf(one) - this.#keyOf(two);
      if (one !== undefined && order <= 0) gone.push(one);
      if (two !== undefined && order >= 0) come.push(two);
      if (order <= 0) old.next();
      if (order >= 0) now.next();
    }
  }

  /** The first chunk whose last item does not come before the key; past the end where there is none. */
  #chunkOf(key: number): number {
    let low = 0;
    let high = this.#chunks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const last = this.#chunks[middle]?.at(-1);
      if (last !== undefined && this.#keyOf(last) < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The first place in a chunk whose item does not come before the key. */
  #indexIn(chunk: Chunk<Item>, key: number): number {
    let low = 0;
    let high = chunk.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const item = chunk[middle];
      if (item !== undefined && this.#keyOf(item) < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** A place in a list. */
class Cursor<Item> {
  readonly #chunks: readonly Chunk<Item>[];
  #chunk = 0;
  #index = 0;

  constructor(chunks: readonly Chunk<Item>[]) {
    this.#chunks = chunks;
  }

  get item(): Item | undefined {
    return this.#chunks[this.#chunk]?.[this.#index];
  }

  /** The chunk that begins here; undefined inside of one, and at the end. */
  get chunk(): Chunk<Item> | undefined {
    return this.#index === 0 ? this.#chunks[this.#chunk] : undefined;
  }

  next(): void {
    this.#index++;
    if (this.#index === this.#chunks[this.#chunk]?.length) this.nextChunk();
  }

  nextChunk(): void {
    this.#chunk++;
    this.#index = 0;
  }
}

function skipShared<Item>(a: Cursor<Item>, b: Cursor<Item>): void {
  while (a.chunk !== undefined && a.chunk === b.chunk) {
    a.nextChunk();
    b.nextChunk();
  }
}

/** Numbers that stand for serials in a sum: serials themselves have too many equal sums. */
function saltOf({ serial }: Serial): number {
  let salt = Math.imul(serial ^ (serial >>> 16), 0x7feb_352d);
  salt = Math.imul(salt ^ (salt >>> 15), 0x846c_a68b);
  return salt ^ (salt >>> 16);
}

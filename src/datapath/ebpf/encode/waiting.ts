// Elements of the kernel's hash tables that found no room, in the order they came, until there is some. Pure.
import type { HashName } from './sink.ts';

type Element = { readonly key: Uint8Array; readonly value: Uint8Array };

export class Waiting {
  readonly #byTable = new Map<HashName, Map<string, Element>>();

  /** How many wait for each table. */
  get counts(): ReadonlyMap<HashName, number> {
    return new Map([...this.#byTable].map(([table, elements]) => [table, elements.size]));
  }

  has(table: HashName, key: Uint8Array): boolean {
    return this.#byTable.get(table)?.has(nameOf(key)) ?? false;
  }

  hasAny(table: HashName): boolean {
    return this.#byTable.has(table);
  }

  /** An element waits, or has another value from now on. Both are copied. */
  add(table: HashName, key: Uint8Array, value: Uint8Array): void {
    const elements = this.#byTable.get(table) ?? new Map<string, Element>();
    this.#byTable.set(table, elements);
    elements.set(nameOf(key), { key: key.slice(), value: value.slice() });
  }

  /** True where it waited. */
  forget(table: HashName, key: Uint8Array): boolean {
    const elements = this.#byTable.get(table);
    const waited = elements?.delete(nameOf(key)) ?? false;
    if (elements?.size === 0) this.#byTable.delete(table);
    return waited;
  }

  /** The elements in turn; `write` says whether one found room. Where one does not, its table's others wait on. */
  retry(write: (table: HashName, key: Uint8Array, value: Uint8Array) => boolean): void {
    for (const [table, elements] of [...this.#byTable]) {
      for (const { key, value } of elements.values()) if (!write(table, key, value)) break;
    }
  }

  clear(): void {
    this.#byTable.clear();
  }
}

function nameOf(key: Uint8Array): string {
  return String.fromCharCode(...key);
}

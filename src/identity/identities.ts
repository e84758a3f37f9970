// Identities: sets of atoms that addresses and blocks share. Numbers go up and are never used again.
import type { AtomNumber } from './atoms.ts';
import { push } from './collect.ts';

export type IdentityEntry = {
  readonly number: number;
  /** Ascending. */
  atoms: readonly AtomNumber[];
  readonly unknown: boolean;
  /** How many addresses and blocks have it. */
  members: number;
  /** The identity that its first members had before, where it was split off one; that may be another one by now. */
  readonly origin: number | null;
};

type Content = Pick<IdentityEntry, 'atoms' | 'unknown'>;

export class Identities {
  readonly #byNumber = new Map<number, IdentityEntry>();
  /** By a hash of their atoms: groups of equal ones. More than one where atoms went away; the first is the one to use. */
  readonly #byContent = new Map<number, IdentityEntry[][]>();
  readonly #byAtom = new Map<AtomNumber, IdentityEntry[]>();
  /** Atoms that mean nothing any more, and identities may have all the same. */
  readonly #dead = new Set<AtomNumber>();
  /** Identities that may be without members. */
  readonly #empty = new Set<IdentityEntry>();
  #next = 1;
  #twins = 0;

  /** How many identities are equal to another. */
  get twins(): number {
    return this.#twins;
  }

  get size(): number {
    return this.#byNumber.size;
  }

  /** The highest number handed out. */
  get last(): number {
    return this.#next - 1;
  }

  /** The identities with a higher number than this. */
  after(number: number): IdentityEntry[] {
    const found: IdentityEntry[] = [];
    for (let next = number + 1; next <= this.last; next++) {
      const entry = this.#byNumber.get(next);
      if (entry !== undefined) found.push(entry);
    }
    return found;
  }

  values(): IterableIterator<IdentityEntry> {
    return this.#byNumber.values();
  }

  at(number: number): IdentityEntry {
    const entry = this.#byNumber.get(number);
    if (entry === undefined) throw new Error(`identity ${number} does not exist`);
    return entry;
  }

  find(number: number): IdentityEntry | undefined {
    return this.#byNumber.get(number);
  }

  withAtom(atom: AtomNumber): readonly IdentityEntry[] {
    return this.#byAtom.get(atom) ?? [];
  }

  /** The identity of these atoms (ascending), made where there is none: split off `origin`, if that is given. */
  of(atoms: readonly AtomNumber[], unknown: boolean, origin: number | null = null): IdentityEntry {
    const found = this.#groupOf({ atoms, unknown })?.[0];
    if (found !== undefined) return found;
    const entry: IdentityEntry = { number: this.#next++, atoms, unknown, members: 0, origin };
    this.#byNumber.set(entry.number, entry);
    this.#empty.add(entry);
    for (const atom of atoms) push(this.#byAtom, atom, entry);
    this.#enter(entry);
    return entry;
  }

  /** All members of the identity have these atoms, ascending; those that it had are among them. */
  gain(entry: IdentityEntry, atoms: readonly AtomNumber[]): void {
    const before = new Set(entry.atoms);
    this.#leave(entry);
    entry.atoms = atoms;
    for (const atom of atoms) if (!before.has(atom)) push(this.#byAtom, atom, entry);
    this.#enter(entry);
  }

  /** Atoms that mean nothing any more. Identities have them until `dropDead` comes to them. */
  dropAtoms(atoms: Iterable<AtomNumber>): void {
    for (const atom of atoms) if (this.#byAtom.has(atom)) this.#dead.add(atom);
  }

  /** True while an identity may have an atom that means nothing. */
  get hasDead(): boolean {
    return this.#dead.size > 0;
  }

  /** Takes the atoms that mean nothing from up to so many identities, from each all of them: it is another one then. */
  dropDead(most: number): void {
    const touched = new Set<IdentityEntry>();
    const done: AtomNumber[] = [];
    for (const atom of this.#dead) {
      const list = this.#byAtom.get(atom) ?? [];
      for (let entry = list.at(-1); entry !== undefined && touched.size < most; entry = list.at(-1)) {
        list.pop();
        // One that got other atoms meanwhile may be nobody's any more.
        if (entry.atoms.includes(atom)) touched.add(entry);
      }
      if (list.length > 0) break;
      this.#byAtom.delete(atom);
      done.push(atom);
    }
    this.#leaveAll(touched);
    for (const entry of touched) {
      entry.atoms = entry.atoms.filter((atom) => !this.#dead.has(atom));
      this.#enter(entry);
    }
    for (const atom of done) this.#dead.delete(atom);
  }

  /** One member more. */
  join(entry: IdentityEntry): void {
    entry.members++;
  }

  /** One member less. */
  leave(number: number): void {
    const entry = this.at(number);
    entry.members--;
    if (entry.members === 0) this.#empty.add(entry);
  }

  /** Removes the identities without members and returns them. */
  retireEmpty(): IdentityEntry[] {
    const gone = [...this.#empty].filter((entry) => entry.members === 0);
    this.#empty.clear();
    this.#leaveAll(new Set(gone));
    for (const entry of gone) this.#byNumber.delete(entry.number);
    for (const atom of new Set(gone.flatMap(({ atoms }) => atoms))) this.#unlistGone(atom);
    return gone;
  }

  #groupOf(content: Content): IdentityEntry[] | undefined {
    return this.#byContent.get(hashOf(content))?.find(([one]) => one !== undefined && isSame(one, content));
  }

  /** The larger one that an identity equals; null where there is none. */
  twinOf(number: number): IdentityEntry | null {
    const entry = this.at(number);
    let largest = entry;
    for (const other of this.#groupOf(entry) ?? []) {
      if (isLarger(other, largest)) largest = other;
    }
    return largest === entry ? null : largest;
  }

  #enter(entry: IdentityEntry): void {
    const group = this.#groupOf(entry);
    if (group === undefined) {
      push(this.#byContent, hashOf(entry), [entry]);
    } else {
      group.push(entry);
      this.#twins++;
    }
  }

  #leave(entry: IdentityEntry): void {
    const group = this.#groupOf(entry) ?? [];
    group.splice(group.indexOf(entry), 1);
    if (group.length > 0) {
      this.#twins--;
      return;
    }
    const hash = hashOf(entry);
    this.#setGroups(
      hash,
      (this.#byContent.get(hash) ?? []).filter((other) => other !== group),
    );
  }

  /** Each group is looked through once, however many leave it: those whose last atom went are all of one. */
  #leaveAll(entries: ReadonlySet<IdentityEntry>): void {
    for (const hash of new Set([...entries].map(hashOf))) {
      const before = this.#byContent.get(hash) ?? [];
      const after = before.map((group) => group.filter((entry) => !entries.has(entry)));
      const left = after.filter((group) => group.length > 0);
      this.#twins += twinsIn(left) - twinsIn(before);
      this.#setGroups(hash, left);
    }
  }

  #setGroups(hash: number, groups: IdentityEntry[][]): void {
    if (groups.length === 0) this.#byContent.delete(hash);
    else this.#byContent.set(hash, groups);
  }

  #unlistGone(atom: AtomNumber): void {
    const list = (this.#byAtom.get(atom) ?? []).filter(({ number }) => this.#byNumber.has(number));
    if (list.length === 0) this.#byAtom.delete(atom);
    else this.#byAtom.set(atom, list);
  }
}

function twinsIn(groups: readonly (readonly IdentityEntry[])[]): number {
  return groups.reduce((sum, group) => sum + group.length - 1, 0);
}

/** Numbers, not text: an identity may have thousands of atoms, and there may be thousands of identities. */
function hashOf({ atoms, unknown }: Content): number {
  let hash = unknown ? 1 : 0;
  for (const atom of atoms) hash = (Math.imul(hash ^ atom, 0x9e3779b1) ^ (hash >>> 15)) | 0;
  return hash;
}

function isSame(a: Content, b: Content): boolean {
  if (a.unknown !== b.unknown || a.atoms.length !== b.atoms.length) return false;
  return a.atoms === b.atoms || a.atoms.every((atom, index) => atom === b.atoms[index]);
}

function isLarger(a: IdentityEntry, b: IdentityEntry): boolean {
  return a.members > b.members || (a.members === b.members && a.number < b.number);
}

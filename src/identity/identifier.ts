// Address → identity, kept up to date while pods, namespaces, nodes and atoms come, change and go. One `settle` turns
// everything noted since the last one into as few moves as it can.
import type { Address } from '#net/address.ts';
import { NONE } from './addresses.ts';
import { AtomTable } from './atom-table.ts';
import { type Atom, type AtomNumber, type AtomSpec, numbersOf } from './atoms.ts';
import type { Block } from './blocks.ts';
import type { IdentityChanges, IdentitySink, SettleOptions } from './changes.ts';
import { push, remember, sortedSet } from './collect.ts';
import { type Held, Holders, type MembersByIdentity, membersOf, partOf } from './holders.ts';
import { Identities, type IdentityEntry } from './identities.ts';
import { Parts } from './parts.ts';
import { Placement } from './placement.ts';
import type { Population } from './population.ts';
import { Truth } from './truth.ts';
import { type Members, Waiting } from './waiting.ts';

/** Equal identities that are left alone until they are this many, and this share of all. */
const TWINS_MIN = 16;
const TWINS_SHARE = 0.25;

/** So few new atoms are looked for one by one. */
const FEW_ATOMS = 4;
/** To look for one atom takes about as long as to look what holds of so many addresses. */
const ROWS_FOR_ATOM = 300;
/** After so many more that went, the atoms that are gone are taken from all identities at once: they would be ever more. */
const MOST_BURIALS = 8;

export class Identifier {
  readonly #population: Population;
  readonly #atoms = new AtomTable();
  readonly #identities = new Identities();
  readonly #holders: Holders;
  readonly #placement: Placement;
  readonly #ipBlockPods: boolean;
  /** Atoms that count since the last change: no rule asks for them yet. */
  readonly #fresh = new Set<AtomNumber>();
  /** How often atoms went while identities still had others that are gone. */
  #burials = 0;
  #gained: { readonly identity: IdentityEntry; readonly atom: AtomNumber }[] = [];

  constructor(population: Population, options: { readonly sink: IdentitySink; readonly ipBlockPods: boolean }) {
    this.#population = population;
    this.#ipBlockPods = options.ipBlockPods;
    const { ipBlockPods, sink } = options;
    this.#placement = new Placement(population, this.#identities, sink);
    this.#holders = new Holders({ population, atoms: this.#atoms, identities: this.#identities, ipBlockPods });
  }

  /** One more use of an atom by rules; `settle` makes it count. */
  acquire(spec: AtomSpec): AtomNumber {
    return this.#atoms.acquire(spec);
  }

  release(atom: AtomNumber): void {
    this.#atoms.release(atom);
  }

  /** How many there are. */
  get size(): number {
    return this.#identities.size;
  }

  identities(): IterableIterator<IdentityEntry> {
    return this.#identities.values();
  }

  /** The identity with a number, while there is one. */
  find(number: number): IdentityEntry | undefined {
    return this.#identities.find(number);
  }

  withAtom(atom: AtomNumber): readonly IdentityEntry[] {
    return this.#identities.withAtom(atom);
  }

  /** The numbers that each named port has on the pods of an identity, ascending. */
  portNumbers(identity: IdentityEntry): ReadonlyMap<AtomNumber, readonly number[]> {
    const found = new Map<AtomNumber, number[]>();
    for (const atom of identity.atoms) {
      const resolution = this.#atoms.resolution(atom);
      if (resolution !== undefined) push(found, resolution.port, resolution.value);
    }
    for (const numbers of found.values()) numbers.sort((a, b) => a - b);
    return found;
  }

  /** The atom that a resolution atom belongs to, or the atom itself. */
  atomOf(atom: AtomNumber): AtomNumber {
    return this.#atoms.resolution(atom)?.port ?? atom;
  }

  /** Resolution atoms of a named port. */
  resolutions(port: AtomNumber): readonly AtomNumber[] {
    return this.#atoms.resolutionsOf(port);
  }

  /**
   * Makes everything noted since the last call true, but for atoms that nothing uses any more: rule lists that are
   * about to go still need them. `bury` takes them away. Equal identities become one where they are many, unless
   * whoever asks has `twins` do it.
   */
  settle({ waiting = [], twins = 'merge', peers = 'tell' }: SettleOptions = {}): IdentityChanges {
    const fresh = this.#takeFresh();
    const split = (): void => {
      if (this.#areMany(fresh.length) || this.#wouldTakeLong(waiting)) {
        this.#regroup();
        return;
      }
      for (const one of waiting) one.advance(Number.POSITIVE_INFINITY);
      for (const atom of fresh)
        for (const [number, parts] of this.#holders.held(atom)) this.#split(number, membersOf(parts));
    };
    for (const { number } of fresh) this.#fresh.add(number);
    const merge = (): void => {
      if (twins === 'merge' && this.#twinsAreMany()) this.#waitingTwins().advance(Number.POSITIVE_INFINITY);
    };
    return this.#change(split, { merge, peers });
  }

  /**
   * Makes new atoms count that rules are going to use: of all that is new or changes from now on, and of all others as
   * `advance` finds and moves them; at up to so many places it is looked for them now. Null where they are so many that
   * `settle` has less work with all of them at once.
   */
  foresee(looks: number): Waiting | null {
    if (this.#areMany(this.#atoms.fresh)) return null;
    const fresh = this.#takeFresh();
    const waiting = new Waiting(fresh.map(({ number }) => number));
    for (const atom of fresh) {
      const found: Held = new Map();
      // Who comes to hold it meanwhile has it at once, and who was found to hold it is asked for it once more.
      const done = (): void => {
        for (const [number, parts] of found) {
          waiting.add(this.#holders.waitingParts(parts), (part) =>
            this.#split(number, this.#holders.stillHeld(atom, number, part)),
          );
        }
      };
      waiting.search({ ...this.#holders.search(atom, found), done });
    }
    waiting.look(looks);
    return waiting;
  }

  /** Finds and moves so many of those who wait, and makes everything noted true, as `settle` does. */
  advance(waiting: Waiting, most: number, looks?: number): IdentityChanges {
    return this.#change(() => waiting.advance(most, looks));
  }

  /** Those who have another identity than its equal, where they are many; `advance` moves them. */
  twins(): Waiting | null {
    return this.#twinsAreMany() ? this.#waitingTwins() : null;
  }

  #waitingTwins(): Waiting {
    const waiting = new Waiting();
    const { addresses, blocks } = this.#population;
    const parts: MembersByIdentity = new Map();
    const known = new Map<number, boolean>([[NONE, false]]);
    // Whoever becomes another's twin while others are looked for is found the next time.
    const isTwin = (identity: number): boolean =>
      remember(known, identity, () => this.#identities.twinOf(identity) !== null);
    const look = (first: number, end: number): void => {
      for (let row = first; row < end; row++) {
        const identity = addresses.identity.at(row);
        if (isTwin(identity)) partOf(parts, identity).rows.push(row);
      }
    };
    const done = (): void => {
      for (const block of blocks.values()) {
        const { identity } = block;
        if (identity !== null && isTwin(identity)) partOf(parts, identity).blocks.push(block);
      }
      const cut = [...parts.values()].map((part) => ({ ...part, whole: false }));
      waiting.add(cut, (part) => this.#joinTwins(part));
    };
    waiting.search({ places: addresses.end, look, done });
    return waiting;
  }

  #takeFresh(): readonly Atom[] {
    const fresh = this.#atoms.takeFresh();
    for (const atom of fresh) {
      if (atom.kind !== 'addresses') continue;
      for (const block of this.#population.blocks.addAtom(atom)) this.#population.dirty.blocks.add(block);
    }
    return fresh;
  }

  /** Makes everything noted true; `split` moves those who are settled, `merge` all. */
  #change(
    split: () => void,
    { merge, peers: told = 'tell' }: Pick<SettleOptions, 'peers'> & { readonly merge?: () => void } = {},
  ): IdentityChanges {
    const known = this.#identities.last;
    this.#placement.detach();
    split();
    const peers: Address[] = [];
    this.#assignRows((address) => told === 'tell' && peers.push(address));
    this.#assignBlocks();
    merge?.();
    this.#placement.writeMoves();
    const { dirty } = this.#population;
    const podBlocks = dirty.podBlocks;
    dirty.podBlocks = false;
    const gained = this.#gained.filter(({ atom }) => !this.#fresh.has(this.atomOf(atom)));
    this.#gained = [];
    this.#fresh.clear();
    return { created: this.#createdSince(known), gained, peers, podBlocks };
  }

  /** Makes equal identities one: what a fresh build would have. */
  merge(): IdentityChanges {
    this.#identities.dropDead(Number.POSITIVE_INFINITY);
    this.#waitingTwins().advance(Number.POSITIVE_INFINITY);
    this.#placement.writeMoves();
    return { created: [], gained: [], peers: [], podBlocks: false };
  }

  /**
   * Takes away what nothing uses: atoms and their boundaries. Returns the identities that nobody has any more.
   * `keep`: the atoms still count, for classes of rules that are gone. `most`: of so many identities at a time.
   */
  bury(unused: 'drop' | 'keep', most: number): readonly IdentityEntry[] {
    const dead = unused === 'keep' ? [] : this.#atoms.takeDead();
    if (!this.isBurying) this.#burials = 0;
    else if (dead.length > 0) this.#burials++;
    for (const atom of dead) {
      if (atom.kind !== 'addresses') continue;
      for (const block of this.#population.blocks.removeAtom(atom)) this.#population.dirty.gone.add(block);
    }
    this.#identities.dropAtoms(dead.flatMap(numbersOf));
    this.#identities.dropDead(this.#burials > MOST_BURIALS ? Number.POSITIVE_INFINITY : most);
    this.#placement.dropGoneBlocks();
    return this.#identities.retireEmpty();
  }

  /** True while identities have atoms that nothing uses: what differs in those alone is not known to be equal yet. */
  get isBurying(): boolean {
    return this.#identities.hasDead;
  }

  #createdSince(known: number): IdentityEntry[] {
    return this.#identities.after(known).filter((identity) => identity.members > 0);
  }

  #joinTwins({ rows, blocks }: Members): void {
    const { addresses } = this.#population;
    for (const row of rows) {
      const identity = addresses.identity.at(row);
      const to = identity === NONE ? null : this.#identities.twinOf(identity);
      if (to !== null) this.#placement.place(row, to);
    }
    for (const block of blocks) {
      const to = block.identity === null ? null : this.#identities.twinOf(block.identity);
      if (to !== null) this.#placement.placeBlock(block, to);
    }
  }

  /** Members gain an atom: the smaller part of each identity moves, a whole identity stays. */
  #split(atom: AtomNumber, members: Members): void {
    const rests: Pick<IdentityEntry, 'number' | 'atoms' | 'unknown'>[] = [];
    for (const [number, part] of this.#holders.byIdentity(members)) {
      const identity = this.#identities.at(number);
      const { atoms, members: total, unknown } = identity;
      const size = part.rows.length + part.blocks.length;
      const gained = sortedSet([...atoms, atom]);
      if (size * 2 <= total) {
        this.#placement.move(part, this.#identities.of(gained, unknown, number));
        continue;
      }
      this.#gain(identity, gained);
      if (size < total) rests.push({ number, atoms, unknown });
    }
    // Once all have gained: what a rest remains may be what one was that has gained by now.
    const targets = new Map<number, IdentityEntry>();
    for (const { number, atoms, unknown } of rests) targets.set(number, this.#identities.of(atoms, unknown, number));
    if (targets.size > 0) this.#moveRests(targets, members);
  }

  #gain(identity: IdentityEntry, atoms: readonly AtomNumber[]): void {
    const before = new Set(identity.atoms);
    for (const atom of atoms) if (!before.has(atom)) this.#gained.push({ identity, atom });
    this.#identities.gain(identity, atoms);
  }

  /** The members of identities that are not in the part move to where each identity says. */
  #moveRests(rests: ReadonlyMap<number, IdentityEntry>, part: Members): void {
    const { addresses, blocks } = this.#population;
    const stays = new Uint8Array(addresses.end);
    for (const row of part.rows) stays[row] = 1;
    for (let row = 0; row < stays.length; row++) {
      const to = stays[row] === 1 ? undefined : rests.get(addresses.identity.at(row));
      if (to !== undefined) this.#placement.place(row, to);
    }
    const blocksOfPart = new Set(part.blocks);
    for (const block of blocks.values()) {
      const to = blocksOfPart.has(block) ? undefined : rests.get(block.identity ?? NONE);
      if (to !== undefined) this.#placement.placeBlock(block, to);
    }
  }

  /** True where it is less work to look at every place once than to look for the places of each atom. */
  #areMany(fresh: number): boolean {
    return fresh > FEW_ATOMS && fresh * ROWS_FOR_ATOM > this.#population.addresses.end;
  }

  /** The same of atoms whose holders wait and are to move now. */
  #wouldTakeLong(waiting: readonly Waiting[]): boolean {
    const late = waiting.filter(({ left }) => left > 0);
    const atoms = late.reduce((sum, { introduces }) => sum + introduces.size, 0);
    return atoms > FEW_ATOMS && late.reduce((sum, { left }) => sum + left, 0) > this.#population.addresses.end;
  }

  /** Finds out for every settled place what holds there; the largest part of each identity stays what it is. */
  #regroup(): void {
    const { addresses, blocks } = this.#population;
    const truth = this.#truth();
    const parts = new Parts();
    const lists = new Int32Array(addresses.end).fill(NONE);
    for (let row = 0; row < lists.length; row++) {
      const identity = addresses.identity.at(row);
      if (identity === NONE) continue;
      lists[row] = truth.ofRow(row);
      parts.count(identity, lists[row] ?? NONE);
    }
    const ofBlock = (block: Block): number => truth.numberOf(sortedSet(this.#holders.atomsOfBlock(block).atoms));
    for (const block of blocks.values()) if (block.identity !== null) parts.count(block.identity, ofBlock(block));
    const moves = parts.settle((number, list) => this.#gain(this.#identities.at(number), truth.list(list)));
    const targets = moves.map(({ from, list }) => {
      return this.#identities.of(truth.list(list), this.#identities.at(from).unknown, from);
    });
    for (let row = 0; row < lists.length; row++) {
      const to = targets[parts.moveOf(addresses.identity.at(row), lists[row] ?? NONE)];
      if (to !== undefined) this.#placement.place(row, to);
    }
    for (const block of blocks.values()) {
      const to = block.identity === null ? undefined : targets[parts.moveOf(block.identity, ofBlock(block))];
      if (to !== undefined) this.#placement.placeBlock(block, to);
    }
  }

  #truth(): Truth {
    return new Truth(this.#population, this.#atoms, this.#ipBlockPods);
  }

  /** Gives dirty addresses their identity; tells of those that are not who they were. */
  #assignRows(tell: (peer: Address) => void): void {
    const { addresses, dirty } = this.#population;
    const truth = this.#truth();
    const identities: IdentityEntry[] = [];
    for (const row of dirty.rows.rows()) {
      const old = this.#placement.before(row);
      if (!addresses.isClaimed(row)) {
        const address = addresses.address(row);
        this.#placement.free(row);
        tell(address);
        continue;
      }
      const list = truth.ofRow(row);
      identities[list] ??= this.#identities.of(truth.list(list), false);
      this.#placement.place(row, identities[list]);
      if (identities[list].number !== old || this.#isSomebodyElse(row)) tell(addresses.address(row));
    }
    dirty.rows.clear();
    dirty.owners.clear();
    dirty.nodeRows.clear();
  }

  /** Another pod's address than before, or come to a node or gone from it. */
  #isSomebodyElse(row: number): boolean {
    const { dirty } = this.#population;
    return dirty.nodeRows.has(row) || (dirty.owners.get(row) ?? null) !== this.#population.ownerKey(row);
  }

  #assignBlocks(): void {
    for (const block of this.#population.dirty.blocks) {
      const { atoms, unknown } = this.#holders.atomsOfBlock(block);
      this.#placement.placeBlock(block, this.#identities.of(sortedSet(atoms), unknown));
    }
    this.#population.dirty.blocks.clear();
  }

  #twinsAreMany(): boolean {
    const { twins, size } = this.#identities;
    return twins > TWINS_MIN && twins > size * TWINS_SHARE;
  }
}

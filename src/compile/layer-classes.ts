// The classes of layers: what each identity meets there, new, changed, gone, or yet to follow a change of rules.
import type { AtomNumber } from '#identity/atoms.ts';
import { remember } from '#identity/collect.ts';
import type { Identifier } from '#identity/identifier.ts';
import type { IdentityEntry } from '#identity/identities.ts';
import { mostAlike } from './alike.ts';
import { Behind } from './behind.ts';
import type { ByIdentity } from './by-identity.ts';
import type { LayerIndex } from './layer-index.ts';
import { askedBy } from './layer-rules.ts';
import type { LayerTables, Sight } from './layer-tables.ts';
import type { Origin } from './origin.ts';
import type { Part } from './parts.ts';
import type { IdentityNumber, LayerNumber } from './plan.ts';
import type { Recorder } from './recorder.ts';
import type { Furnished, Room } from './room.ts';
import type { Difference } from './sorted-list.ts';
import type { TableEntry, Tables } from './tables.ts';
import { leaves, type Touches, touchesOf } from './touches.ts';

/** What of a layer is in the Plan. */
export type Body = Furnished & {
  readonly number: LayerNumber;
  base: TableEntry | null;
  readonly classes: ByIdentity<TableEntry>;
};

/** Classes that change, by whose they are. The tables are taken. */
export type Changes = ReadonlyMap<IdentityEntry, TableEntry | null>;

/** What layers that change alike have in common. `touches`: null where more than those has to be looked at. */
export type View = { readonly touches: Touches | null; readonly sight: Sight };

const NOBODY: ReadonlySet<IdentityNumber> = new Set();

export class LayerClasses {
  /** Classes that say what rules before said. */
  readonly behind: Behind<Body> = new Behind();
  readonly #recorder: Recorder;
  readonly #tables: Tables;
  readonly #identifier: Identifier;
  readonly #contents: LayerTables;
  readonly #room: Room<Body>;
  readonly #index: LayerIndex<Body>;
  /** Of a batch, by the parts that change. */
  readonly #views = new Map<string, View>();

  constructor(uses: {
    readonly recorder: Recorder;
    readonly tables: Tables;
    readonly identifier: Identifier;
    readonly contents: LayerTables;
    readonly room: Room<Body>;
    readonly index: LayerIndex<Body>;
  }) {
    this.#recorder = uses.recorder;
    this.#tables = uses.tables;
    this.#identifier = uses.identifier;
    this.#contents = uses.contents;
    this.#room = uses.room;
    this.#index = uses.index;
  }

  /**
   * What layers that change by these parts have in common: found once for all of them. `gainers`: those who gained atoms since
   * their classes were made. 'merged': classes hold more than the parts that match.
   */
  viewOf(parts: Difference<Part>, gainers: ReadonlySet<IdentityEntry> | 'merged'): View {
    const serials = [parts.gone, parts.come].map((some) => some.map(({ serial }) => serial).join());
    const key = `${gainers === 'merged' ? 'm' : ''}${serials.join('|')}`;
    return remember(this.#views, key, () => {
      const touches = gainers === 'merged' ? null : touchesOf(parts, this.#identifier, gainers);
      return { touches, sight: new Map() };
    });
  }

  /** A batch is over. */
  settled(): void {
    this.#views.clear();
  }

  /** Lets classes follow the rules. */
  renew(body: Body, numbers: readonly IdentityNumber[]): void {
    this.write(body, this.after(body, this.entries(numbers)));
    for (const number of numbers) this.behind.done(body, number);
  }

  /** The identities of these numbers, as far as there are any. */
  entries(numbers: Iterable<IdentityNumber>): IdentityEntry[] {
    return [...numbers].flatMap((number) => this.#identifier.find(number) ?? []);
  }

  /** The classes that are others than the layer has; the tables are taken. What nobody is any more has none. */
  after(
    body: Body,
    identities: readonly IdentityEntry[],
    { touches, sight }: View = { touches: null, sight: new Map() },
  ): Changes {
    const classes = new Map<IdentityEntry, TableEntry | null>();
    const behind = this.behind.of(body);
    const look = (identity: IdentityEntry): TableEntry | null => this.#contents.classSeen(body.rules, identity, sight);
    for (let at = 0; at < identities.length; at++) {
      const identity = identities[at] as IdentityEntry;
      const known = body.classes.get(identity.number) ?? null;
      const touch = behind.has(identity.number) || body.lacking.has(identity) ? undefined : touches?.get(identity);
      if (touch !== undefined && leaves(this.#tables.contentOf(known), touch)) continue;
      const table = this.#room.class(body, identity, look);
      if (table !== known) classes.set(identity, table);
      else if (table !== null) this.#tables.give(table);
    }
    return classes;
  }

  /** Puts classes in the place of what was there, in a layer that is in use. */
  write(body: Body, classes: Changes): void {
    classes.forEach((table, { number }) => {
      this.#enter(body, number, table);
      this.#recorder.classInPlace(body.number, number, table?.number ?? null);
    });
  }

  /** Gives a new identity its class. */
  add(body: Body, identity: IdentityEntry, origin: Origin | null): void {
    const isLess = origin === null || origin.lost.some((atom) => body.rules.dependsOn(atom));
    const table = isLess ? this.#whole(body, identity) : this.#classAfter(body, identity, origin);
    if (table !== null) this.#setFirst(body, identity, table);
  }

  #whole(body: Body, identity: IdentityEntry): TableEntry | null {
    return this.#room.class(body, identity, () => this.#contents.class(body.rules, identity));
  }

  /** The class of one that is as another was, or as it was itself, but for what it gained. */
  #classAfter(body: Body, identity: IdentityEntry, before: Pick<Origin, 'identity' | 'gained'>): TableEntry | null {
    const isBehind = this.behind.of(body).has(before.identity.number);
    if (isBehind || body.lacking.has(before.identity)) return this.#whole(body, identity);
    const known = body.classes.get(before.identity.number) ?? null;
    return this.#room.class(body, identity, () => {
      const table = this.#contents.gained(body.rules, { identity, known }, before.gained);
      return table === undefined ? this.#contents.class(body.rules, identity) : table;
    });
  }

  /** The same for an identity that rules of the layer match since now. */
  gain(body: Body, identity: IdentityEntry, atom: AtomNumber): void {
    const table = this.#classAfter(body, identity, { identity, gained: [atom] });
    this.#enter(body, identity.number, table);
    this.#recorder.classInPlace(body.number, identity.number, table?.number ?? null);
  }

  /** The first class of an identity in a layer. */
  #setFirst(body: Body, { number }: IdentityEntry, table: TableEntry): void {
    body.classes.set(number, table);
    body.rules.share.take({ classes: 1 });
    this.#recorder.newClass(body.number, number, table.number);
  }

  /** Gives a new layer its classes: those of a layer that it is like, but where the two differ. */
  fill(body: Body, others: readonly Body[]): void {
    const classOf = this.#classes(body);
    const like = mostAlike(body.rules, others);
    const apart = this.#index.identitiesWith(new Set(like?.apart.flatMap(askedBy)), false);
    const behind = like === null ? NOBODY : this.behind.of(like.layer);
    const sameOf = (identity: IdentityEntry): TableEntry | null => {
      const known = like?.layer.classes.get(identity.number);
      return known === undefined ? null : this.#room.class(body, identity, () => this.#tables.again(known));
    };
    for (const identity of this.#index.identitiesWith(new Set(body.rules.atoms()), body.rules.guarded)) {
      // Classes of what nobody is any more are not kept up to date.
      const isSame = like !== null && identity.members > 0 && !apart.has(identity) && !behind.has(identity.number);
      const table = isSame ? sameOf(identity) : classOf(identity);
      if (table !== null) this.#setFirst(body, identity, table);
    }
  }

  /** Takes the class of one identity after the other. */
  #classes(body: Body): (identity: IdentityEntry) => TableEntry | null {
    const look = this.#contents.classes(body.rules);
    return (identity) => this.#room.class(body, identity, look);
  }

  /** Puts a class in the place of what was there. */
  #enter(body: Body, identity: IdentityNumber, table: TableEntry | null): void {
    this.behind.done(body, identity);
    const before = body.classes.get(identity);
    if (before !== undefined) this.#tables.give(before);
    const { share } = body.rules;
    if (table === null) {
      body.classes.delete(identity);
      if (before !== undefined) share.give({ classes: 1 });
      return;
    }
    body.classes.set(identity, table);
    if (before === undefined) share.take({ classes: 1 });
  }

  /** Nobody has the identity any more. */
  drop(body: Body, identity: IdentityNumber): void {
    if (!body.classes.has(identity)) return;
    this.#enter(body, identity, null);
    this.#recorder.class(body.number, identity, null);
  }
}

// From tables of another layout to this version's. Hooks stay with the programs of before until this version's tables are
// whole; then all of them get programs that look into both versions' connections, what has not spoken since is carried
// over, and they get the final programs. At no moment is a connection in none of the tables that its hooks look into.
import { closeObject, runSyscall } from '#kernel/bpf.ts';
import { gracePeriodNow } from '#kernel/memory.ts';
import type { LoadedObject } from '#kernel/object.ts';
import { type EarlierConnections, type EarlierTables, openConnections, readEarlier } from './earlier.ts';
import { DatapathError } from './error.ts';
import { removeGeneration } from './generations.ts';
import type { HookPrograms, Hooks, StagedHooks } from './hooks.ts';
import { type LoadAsk, loadPrograms } from './load.ts';
import type { Maps } from './takeover.ts';

const REFUSED =
  "the tables in force are another version's, and this one can't take them over; they stay in force: start the version " +
  'that made them, or a newer one';

const NOT_IN_HAND =
  'hooks still run the version before, and keep to its own bypass until every pod of then is attached and its policy known (moat status ' +
  'says what is missing): nothing was changed; ask again then, or start that version and ask it';

/** An interface with programs of before: nothing to repair. */
const KEPT = { health: 'first', pinned: true } as const;

type Waiting = { readonly interfaces: Set<number>; readonly between: Hooks; readonly final: Hooks };

/** Owned by the datapath that takes over, from its opening to `finish`. */
export class Upgrade {
  /** Oldest first. */
  readonly #generations: readonly string[];
  readonly #ask: LoadAsk;
  readonly #own: Maps;
  /** Programs that look into both, at tables of upgrades that were themselves never finished. */
  readonly #older: readonly LoadedObject[];
  /** The programs that look into both, at the newest of the earlier tables. */
  readonly #between: LoadedObject;
  /** Pods' before uplinks': who is let in by an uplink is answered at a pod's hook, by the same tables. */
  readonly #waiting: Waiting[] = [];
  readonly tables: readonly EarlierTables[];
  #done = false;

  /** `ask`: how this version's programs are loaded. Throws DatapathError where the earlier tables can't be read. */
  constructor(generations: readonly string[], ask: LoadAsk, own: Maps) {
    this.#generations = generations;
    this.#ask = ask;
    this.#own = own;
    try {
      this.tables = generations.map(readEarlier);
      this.#between = this.#load(generations.at(-1) ?? '');
      this.#older = generations.slice(0, -1).map((generation) => this.#load(generation));
    } catch (cause) {
      throw new DatapathError(`${REFUSED} (${cause instanceof Error ? cause.message : String(cause)})`, cause);
    }
  }

  /** Hooks that wait for `finish` wherever an earlier version's stand. `make` gives hooks of the programs it is given. */
  wrap(final: StagedHooks, make: (programs: HookPrograms) => Hooks): StagedHooks {
    const between = make({
      from_pod: programOf(this.#between, 'from_pod'),
      to_pod: programOf(this.#between, 'to_pod'),
      from_node: programOf(this.#between, 'from_node'),
    });
    const interfaces = new Set<number>();
    this.#waiting.push({ interfaces, between, final });
    const waits = (interfaceIndex: number): boolean => interfaces.has(interfaceIndex);
    return {
      attach: (index) => void (this.pending && final.stands(index) ? interfaces.add(index) : final.attach(index)),
      attachNew: (index) => final.attachNew(index),
      early: final.early,
      stands: (index) => final.stands(index),
      detach: (index) => {
        interfaces.delete(index);
        final.detach(index);
      },
      look: (index, isPinned) =>
        waits(index) ? { ...KEPT, alone: between.look(index).alone } : final.look(index, isPinned),
      repair: (index) => {
        if (!waits(index)) final.repair(index);
      },
      forgetGone: () => final.forgetGone(),
      close: () => final.close(),
    };
  }

  /** True from the start until `finish` is through. */
  get pending(): boolean {
    return !this.#done;
  }

  /** Gives every waiting hook this version's programs, and takes the earlier tables away. */
  finish(): void {
    if (this.#done) return;
    // What hooks of the oldest programs find there alone, those between would not.
    this.#older.forEach(carryAll);
    // Ahead of the first hook: packets to Services are sent on by these tables from then on.
    runSyscall(programOf(this.#between, 'carry_services'));
    this.#each(({ between }, interfaceIndex) => between.attach(interfaceIndex));
    gracePeriodNow();
    // Connections may have begun since, in any of them.
    for (const object of [...this.#older, this.#between]) carryAll(object);
    this.#each(({ final }, interfaceIndex) => final.attach(interfaceIndex));
    this.#done = true;
    for (const { interfaces } of this.#waiting) interfaces.clear();
    this.close();
    this.#generations.forEach(removeGeneration);
  }

  /** What a bypass is now was found in the earlier tables, and only their programs read it there. */
  refuseBypass(): void {
    if (this.pending) throw new DatapathError(NOT_IN_HAND, undefined);
  }

  /** Lets go of what only the change needs; the earlier tables stay where it was not finished. */
  close(): void {
    for (const { between } of this.#waiting.splice(0)) between.close();
    for (const object of [...this.#older, this.#between]) object.close();
  }

  #each(work: (waiting: Waiting, interfaceIndex: number) => void): void {
    for (const waiting of this.#waiting) for (const index of waiting.interfaces) work(waiting, index);
  }

  #load(generation: string): LoadedObject {
    const connections: EarlierConnections = openConnections(generation, this.#own);
    try {
      const [a, b = a] = connections.maps;
      const reuse = new Map(Object.entries({ earlier_ct_a: a ?? -1, earlier_ct_b: b ?? -1 }));
      return loadPrograms({ ...this.#ask, reuse, knobs: { ...this.#ask.knobs, ...connections.knobs } });
    } finally {
      connections.maps.forEach(closeObject);
    }
  }
}

function carryAll(object: LoadedObject): void {
  runSyscall(programOf(object, 'carry_services'));
  runSyscall(programOf(object, 'carry'));
}

function programOf(object: LoadedObject, name: string): number {
  const fd = object.programs.get(name);
  if (fd === undefined) throw new Error(`the kernel object has no program ${name}`);
  return fd;
}

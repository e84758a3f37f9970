// A node under churn, without its kernel: what it holds of a cluster does not grow with how often that has changed.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NodeState } from '#agent/node-state.ts';
import { Compiler } from '#compile/compiler.ts';
import type { Step } from '#compile/plan.ts';
import { Encoder } from '#datapath/ebpf/encode/encoder.ts';
import type { HashName, Sink } from '#datapath/ebpf/encode/sink.ts';
import { type ClusterEvent, EMPTY_WORLD, STANDARD_SEMANTICS } from '#policy/world.ts';
import { held } from '#test/support/held.ts';
import { drawRounds } from '#test/support/kills/rounds.ts';
import { diffClusters, type KillWorld } from '#test/support/kills/services.ts';
import { addressesOf, NODE } from '#test/support/kills/slots.ts';
import { quantile } from '#test/support/kills/tally.ts';
import { edited, firstWorld, localSlots } from '#test/support/kills/world.ts';

const FOR_SERVICES = { services: 256, servicePlaces: 1 << 18, backends: 1024, serviceMarks: 1024 };
const SIZES = { arena: 1 << 16, sets: 4096, setSlots: 4096, endpointSlots: 1024, peerEpochs: 256, ...FOR_SERVICES };
const NOTHING: KillWorld = { ...EMPTY_WORLD, services: new Map(), slices: new Map() };
const SEED = 71;
/** Changes in one turn, after which the cluster is as it was before. */
const CHANGES = 200;
/** Turns until all that has a limit is full, and turns after that. */
const SETTLING = 12;
const TURNS = 12;
/** By how much a turn may leave more behind: 50 bytes a change. */
const SPARE_BYTES = 10_000;

/** The keys of the kernel's hash tables. */
class Keys implements Sink {
  readonly tables: Map<HashName, Set<string>> = new Map();

  put(table: HashName, key: Uint8Array): void {
    this.#of(table).add(key.toString());
  }

  remove(table: HashName, key: Uint8Array): void {
    this.#of(table).delete(key.toString());
  }

  readonly waiting: ReadonlyMap<HashName, number> = new Map();

  read(): null {
    return null;
  }

  flush(): void {}
  retry(): void {}
  record(): void {}
  word(): void {}
  live(): void {}
  mark(): void {}
  state(): void {}

  get sizes(): string {
    return JSON.stringify([...this.tables].map(([name, keys]) => [name, keys.size]).sort());
  }

  #of(table: HashName): Set<string> {
    const found = this.tables.get(table) ?? new Set();
    this.tables.set(table, found);
    return found;
  }
}

/** An agent's state; pods are attached at once. */
class Node {
  readonly keys: Keys = new Keys();
  readonly #encoder: Encoder;
  readonly #state: NodeState;
  #world: KillWorld = NOTHING;
  #revision = 0;

  constructor() {
    this.#encoder = new Encoder(this.keys, {
      ...{ node: NODE, sizes: SIZES, epoch: 0n, generation: 0, base: 0, bank: 0, serviceBank: 0, inherited: [] },
      wait: () => undefined,
    });
    const compiler = new Compiler({ semantics: STANDARD_SEMANTICS, isLocal: (pod) => pod.node === NODE });
    this.#state = new NodeState(NODE, compiler, {
      apply: (steps: readonly Step[]) => this.#encoder.apply(steps),
      attach: () => undefined,
      attachNew: () => undefined,
      finishNew: () => undefined,
      detach: () => undefined,
      poll: () => ({ events: [], lost: 0 }),
      close: () => undefined,
      bypass: 0n,
      turn: () => undefined,
      settle: () => undefined,
      counters: () => ({
        drops: new Map(),
        audited: new Map(),
        evicted: 0n,
        fromPod: 0n,
        toPod: 0n,
        redirected: 0n,
        routed: 0n,
        delivered: 0n,
        forwarded: 0n,
        lost: 0n,
      }),
      lacks: [],
      complaints: [],
      usage: async () => [],
      failure: null,
      repair: () => [],
      refresh: () => undefined,
    });
  }

  become(world: KillWorld): void {
    // As it comes over a socket: nothing is shared with what was there before.
    const events = JSON.parse(JSON.stringify(diffClusters(this.#world, world))) as ClusterEvent[];
    this.#state.apply(events, ++this.#revision);
    while (this.#state.isBusy) this.#state.advance();
    const [before, now] = [this.#world, world].map(localSlots);
    for (const slot of before ?? []) if (!now?.includes(slot)) this.#encoder.detach(slot + 1);
    for (const slot of now ?? []) this.#attach(slot);
    this.#encoder.finish(this.#encoder.limbo.take());
    this.#world = world;
  }

  #attach(slot: number): void {
    const mac = Uint8Array.of(2, 0, 0, 0, 0, slot);
    const addresses = addressesOf(slot);
    const link = {
      interfaceIndex: slot + 1,
      mac,
      hostMac: mac,
      mtu: 1500,
      plain: false,
      redirect: false,
      adoptUntil: 0n,
      addresses,
    };
    this.#encoder.attach(link);
  }
}

test('a cluster that changes all the time, and is as before in the end, takes no more memory than before', (t) => {
  const worlds = [firstWorld()];
  for (const { edits } of drawRounds(SEED, CHANGES)) worlds.push(edits.reduce(edited, worlds.at(-1) ?? NOTHING));
  const node = new Node();
  const turn = (): { readonly heap: number; readonly tables: string } => {
    for (const world of worlds) node.become(world);
    node.become(firstWorld());
    // What has just been freed waits for one change more.
    node.become(firstWorld());
    return { heap: held().data, tables: node.keys.sizes };
  };
  const first = turn();
  for (let count = 2; count < SETTLING; count++) turn();
  const later = Array.from({ length: TURNS }, turn);
  assert.equal(later.at(-1)?.tables, first.tables);
  // Now and then code becomes hot or cold, which is a step of 200 kB either way: a leak is in every turn.
  const steps = later.slice(1).map(({ heap }, index) => heap - (later[index]?.heap ?? 0));
  const grown = quantile(steps, 0.5);
  t.diagnostic(`${grown} bytes more after ${CHANGES} changes`);
  assert.ok(grown < SPARE_BYTES, `${grown} bytes more after ${CHANGES} changes`);
});

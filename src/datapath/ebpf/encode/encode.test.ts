// Encoding is pure: tables keep their meaning, places are used again only when nobody can read them, order is safe.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { Interval, PortTable, Step } from '#compile/plan.ts';
import { endpointStep, ground, identitySteps, interval, isolatingSet } from '#test/support/hand-plan.ts';
import { address } from '#test/support/pod-bed.ts';
import { holds } from '#test/support/property.ts';
import { ARENA_RECORD, CLASS_KEY, ENDPOINT, SET_LAYER, SET_SLOT, TABLE_ACTION } from './abi.gen.ts';
import { tableRecords } from './arena.ts';
import { classBytes } from './bytes.ts';
import { Encoder } from './encoder.ts';
import {
  type HashName,
  NumbersUsedUpError,
  type RecordName,
  type Sink,
  StepOrderError,
  type WordName,
} from './sink.ts';
import { bankExtent, Limbo, Space, TableFullError } from './space.ts';

const NO_SERVICES = { services: 1, servicePlaces: 1, backends: 1, serviceMarks: 1 };
const SIZES = { arena: 4096, sets: 64, setSlots: 64, endpointSlots: 64, peerEpochs: 256, ...NO_SERVICES };

describe('port tables', () => {
  const cuts = fc.uniqueArray(fc.integer({ min: 0, max: 0xff_ffff }), { maxLength: 12 });
  const actions = fc.constantFrom<Interval['action'][]>('deny', 'allow', 'reject', 'pass');

  it('say in the kernel what they said in the Plan, gaps included', (context) => {
    holds(
      context,
      fc.property(
        cuts,
        fc.infiniteStream(actions),
        fc.array(fc.nat(0xff_ffff), { minLength: 5 }),
        (all, action, asked) => {
          const table = tableOf(all, () => action.next().value ?? 'deny');
          for (const position of [...asked, ...all, 0, 0xff_ffff]) {
            assert.deepEqual(lookUp(table, position), expected(table, position));
          }
        },
      ),
      500,
    );
  });

  it('are refused where intervals overlap', () => {
    assert.throws(
      () => tableRecords([interval(5, 9, 'allow', 1), interval(9, 12, 'deny', 2)], 0, new Set()),
      StepOrderError,
    );
  });
});

/** Every second stretch between the cuts is an interval. */
function tableOf(cuts: readonly number[], action: () => Interval['action']): PortTable {
  const sorted = [...cuts].sort((a, b) => a - b);
  const pairs = sorted.flatMap((first, index) => {
    const next = sorted[index + 1];
    return next === undefined || index % 3 === 2 ? [] : [[first, next - 1] as const];
  });
  return pairs.map(([first, last], index) => interval(first, last, action(), index));
}

function expected(table: PortTable, position: number): readonly number[] | null {
  const found = table.find((each) => each.first <= position && position <= each.last);
  const codes = {
    deny: TABLE_ACTION.DENY,
    allow: TABLE_ACTION.ALLOW,
    reject: TABLE_ACTION.REJECT,
    pass: TABLE_ACTION.PASS,
  };
  return found === undefined ? null : [codes[found.action], found.rule + 1, found.order];
}

/** As arena_search in bpf/policy.h: the last record that starts at or before the position. */
function lookUp(table: PortTable, position: number): readonly number[] | null {
  const [header, ...records] = tableRecords(table, 0, new Set());
  assert.equal(header?.start, records.length);
  const found = records.findLast((record) => record.start <= position);
  return found === undefined || found.action === TABLE_ACTION.UNDECIDED
    ? null
    : [found.action, found.rule, found.order];
}

describe('room in the arrays', () => {
  it('is given out once at a time, and again only after the wait', (context) => {
    const sizes = fc.array(fc.tuple(fc.integer({ min: 1, max: 40 }), fc.boolean()), { maxLength: 200 });
    holds(
      context,
      fc.property(sizes, (wanted) => {
        const limbo = new Limbo(() => undefined);
        const space = new Space('arena', bankExtent(2048, 1), limbo);
        const used = new Map<number, number>();
        const kept: (readonly [number, number])[] = [];
        for (const [length, release] of wanted) {
          const offset = space.allocate(length);
          assert.ok(offset >= 1024 && offset + length <= 2048);
          for (const [other, size] of used) assert.ok(offset + length <= other || other + size <= offset, 'no overlap');
          used.set(offset, length);
          if (release) limbo.later(releaseOf(offset, length));
          else kept.push([offset, length]);
          const oldest = kept.length > 5 ? kept.shift() : undefined;
          if (oldest !== undefined) limbo.later(releaseOf(...oldest));
          if (used.size > 10) limbo.drain();

          function releaseOf(at: number, size: number): () => void {
            return () => {
              used.delete(at);
              space.release(at, size);
            };
          }
        }
      }),
      300,
    );
  });

  it('says which table is full', () => {
    const space = new Space('set_map', { first: 1, end: 3 }, new Limbo(() => undefined));
    assert.deepEqual([space.allocate(1), space.allocate(1)], [1, 2]);
    assert.throws(
      () => space.allocate(1),
      (error) => error instanceof TableFullError && error.table === 'set_map',
    );
  });

  it('is not given out again by a batch that is finished twice', () => {
    const limbo = new Limbo(() => undefined);
    let runs = 0;
    limbo.later(() => runs++);
    const batch = limbo.take();
    limbo.drain();
    limbo.finish(batch);
    assert.equal(runs, 1);
  });
});

describe('the order of writes', () => {
  it('never lets a pointer stand before what it points to, nor a record change while one stands', () => {
    const sink = new StrictSink();
    const encoder = new Encoder(sink, start(sink));
    const a = address('10.0.0.1');
    encoder.apply([...ground(), ...identitySteps(5, [a])]);
    const classes = new Map([[5, [interval(0, 9, 'allow', 1)]]]);
    for (let round = 0; round < 100; round++) {
      encoder.apply([...isolatingSet(7, 70, classes), endpointStep(a, { ingress: 7 })]);
      encoder.attach({ ...LINK, mtu: 1000 + round });
    }
    assert.ok(sink.words > 100 && sink.waits > 0, `${sink.words} swaps, ${sink.waits} waits`);
  });

  it('denies by a table that finds no room, and by that one alone, until there is room', () => {
    const sink = new StrictSink();
    const encoder = new Encoder(sink, start(sink));
    const long = Array.from({ length: SIZES.arena }, (_, port) => interval(2 * port, 2 * port, 'allow', 1));
    const small = [interval(0, 9, 'allow', 1)];
    encoder.apply([...ground(), ...identitySteps(5, []), ...identitySteps(6, [])]);
    const classOf = (identity: number): string => sink.tableOf(7, identity).join();
    const classes = (five: readonly Interval[]): Step[] =>
      isolatingSet(
        7,
        70,
        new Map([
          [5, five],
          [6, small],
        ]),
      );
    encoder.apply(classes(long));
    assert.equal(countOf(encoder), 1);
    assert.equal(classOf(5), `0 ${TABLE_ACTION.DENY} by 0`);
    assert.match(classOf(6), new RegExp(`^0 ${TABLE_ACTION.ALLOW} by 2`));
    encoder.apply(classes(small));
    assert.equal(countOf(encoder), 0);
    assert.equal(classOf(5), classOf(6));
  });

  it('places a table that found no room as soon as another gives its own back', () => {
    const sink = new StrictSink();
    const encoder = new Encoder(sink, start(sink));
    const half = Array.from({ length: 700 }, (_, port) => interval(2 * port, 2 * port, 'allow', 1));
    encoder.apply([...ground(), ...identitySteps(5, [])]);
    encoder.apply(isolatingSet(7, 70, new Map([[5, half]])));
    encoder.apply(isolatingSet(8, 80, new Map([[5, half]])));
    assert.equal(countOf(encoder), 1);
    encoder.apply([
      { kind: 'class', layer: 7, identity: 5, value: null },
      { kind: 'table', table: 701, value: null },
    ]);
    sink.wait();
    encoder.finish(encoder.limbo.take());
    assert.equal(countOf(encoder), 0);
    assert.match(sink.tableOf(8, 5).join(), new RegExp(`^0 ${TABLE_ACTION.ALLOW} by 2`));
  });

  it('bumps the counter after everything else of a call', () => {
    const sink = new StrictSink();
    const encoder = new Encoder(sink, start(sink));
    encoder.apply([...ground(), ...isolatingSet(7, 70)]);
    sink.log.length = 0;
    encoder.apply([{ kind: 'epoch', sets: [7], peers: [address('10.0.0.1')] }]);
    assert.deepEqual(sink.log, ['set_epoch', 'peer_epoch', 'epoch']);
  });

  it('keeps the classes of an identity that goes until packets under way are through', () => {
    const sink = new StrictSink();
    const encoder = new Encoder(sink, start(sink));
    encoder.apply([
      ...ground(),
      ...identitySteps(5, []),
      ...isolatingSet(7, 70, new Map([[5, [interval(0, 9, 'deny', 1)]]])),
    ]);
    const gone: Step[] = [
      { kind: 'class', layer: 7, identity: 5, value: null },
      { kind: 'identity', identity: 5, value: null },
    ];
    encoder.apply(gone);
    assert.equal(sink.hashes.class_map.size, 1);
    encoder.limbo.drain();
    assert.equal(sink.hashes.class_map.size, 0);
  });

  it('takes a class away at once where its identity stays', () => {
    const sink = new StrictSink();
    const encoder = new Encoder(sink, start(sink));
    encoder.apply([
      ...ground(),
      ...identitySteps(5, []),
      ...isolatingSet(7, 70, new Map([[5, [interval(0, 9, 'allow', 1)]]])),
    ]);
    encoder.apply([{ kind: 'class', layer: 7, identity: 5, value: null }]);
    assert.equal(sink.hashes.class_map.size, 0);
  });

  it('gives out no number that the kernel’s keys do not hold', () => {
    const sink = new StrictSink();
    const encoder = new Encoder(sink, { ...start(sink), base: 0x7fff_ff00 });
    const named = (identity: number): Step => ({ kind: 'identity', identity, value: { unknown: true } });
    encoder.apply([named(0xfe)]);
    assert.throws(() => encoder.apply([named(0xff)]), NumbersUsedUpError);
  });

  it('refuses a step that names what was never published', () => {
    const sink = new StrictSink();
    const encoder = new Encoder(sink, start(sink));
    assert.throws(() => encoder.apply([{ kind: 'address', address: address('10.0.0.1'), value: 99 }]), StepOrderError);
    assert.throws(() => encoder.apply([{ kind: 'set', set: 1, value: { layers: [99] } }]), StepOrderError);
    assert.throws(
      () =>
        encoder.apply([
          { kind: 'layer', layer: 1, value: null },
          { kind: 'class', layer: 1, identity: 1, value: 3 },
        ]),
      StepOrderError,
    );
  });
});

const LINK = {
  interfaceIndex: 3,
  mac: Uint8Array.of(2, 0, 0, 0, 0, 1),
  hostMac: Uint8Array.of(2, 0, 0, 0, 0, 2),
  mtu: 1500,
  plain: true,
  redirect: true,
  adoptUntil: 0n,
  addresses: [address('10.0.0.1')],
};

/** How many tables found no room. */
function countOf({ lacks }: Encoder): number {
  return lacks.reduce((sum, { count }) => sum + count, 0);
}

function start(sink: StrictSink): ConstructorParameters<typeof Encoder>[1] {
  const wait = (): void => sink.wait();
  return {
    node: 'node-a',
    sizes: SIZES,
    epoch: 0n,
    generation: 0,
    base: 0,
    bank: 0,
    serviceBank: 0,
    inherited: [],
    wait,
  };
}

/** A kernel that checks: pointers lead to records that were written, and no reachable record is written over. */
class StrictSink implements Sink {
  readonly hashes: Record<HashName, Map<string, bigint>> = {
    ...{
      endpoint_map: new Map(),
      iface_map: new Map(),
      node_map: new Map(),
      uplink_map: new Map(),
      class_map: new Map(),
      service_map: new Map(),
    },
    ...{ address: new Map(), prefix4: new Map(), prefix6: new Map() },
  };
  readonly log: string[] = [];
  readonly #records = new Map<string, Uint8Array>();
  readonly #sets = new Map<number, bigint>();
  /** Records that a packet under way may still read. */
  #seen = new Set<string>();
  readonly lives = new Map<number, bigint>();
  readonly waiting: ReadonlyMap<HashName, number> = new Map();
  words = 0;
  waits = 0;

  put(table: HashName, key: Uint8Array, value: Uint8Array): void {
    this.log.push(table);
    const word = new DataView(value.buffer).getBigUint64(0, true);
    if (table === 'class_map') this.#mustHold('arena', Number(word & 0xffff_ffffn));
    if (table === 'endpoint_map') this.#checkEndpoint(Number(word & 0xffff_ffffn));
    this.#note();
    this.hashes[table].set(Buffer.from(key).toString('hex'), word);
  }

  remove(table: HashName, key: Uint8Array): void {
    this.hashes[table].delete(Buffer.from(key).toString('hex'));
  }

  read(): null {
    return null;
  }

  flush(): void {
    // Nothing is ever pending.
  }

  retry(): void {
    // It is never full.
  }

  record(table: RecordName, index: number, bytes: Uint8Array): void {
    assert.ok(!this.#reachable().has(`${table} ${index}`), `${table}[${index}] is written while it can be read`);
    this.#records.set(`${table} ${index}`, bytes);
  }

  word(table: WordName, index: number, value: bigint): void {
    this.log.push(table);
    this.words++;
    if (table !== 'set_map') return;
    if (value !== 0n) this.#checkSet(Number(value & 0xffff_ffffn));
    this.#note();
    this.#sets.set(index, value);
  }

  mark(): void {
    this.log.push('service_marks');
  }

  live(table: string, slot: number, value: bigint): void {
    if (table !== 'endpoint_slots') return;
    if (value !== 0n) this.#mustHold('endpoint_slots', slot);
    this.lives.set(slot, value);
  }

  state(field: string): void {
    this.log.push(field);
  }

  /** The records of a class: start, action and rule of each. */
  tableOf(layer: number, identity: number): string[] {
    const word = this.hashes.class_map.get(Buffer.from(classBytes(layer, identity)).toString('hex')) ?? 0n;
    const bytes = this.#mustHold('arena', Number(word & 0xffff_ffffn));
    const from = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const field = (index: number, offset: number): number => from.getUint32(index * ARENA_RECORD.size + offset, true);
    return Array.from({ length: field(0, ARENA_RECORD.start) }, (_, index) => {
      const { start, action, rule } = ARENA_RECORD;
      return `${field(index + 1, start)} ${field(index + 1, action)} by ${field(index + 1, rule)}`;
    });
  }

  /** Two grace periods: what is out of reach now is out of every packet's reach. */
  wait(): void {
    this.waits++;
    this.#seen = new Set();
  }

  #note(): void {
    this.#seen = this.#reachable();
  }

  #reachable(): Set<string> {
    const found = new Set(this.#seen);
    for (const word of this.hashes.class_map.values()) found.add(`arena ${word & 0xffff_ffffn}`);
    for (const word of this.hashes.endpoint_map.values()) found.add(`endpoint_slots ${word & 0xffff_ffffn}`);
    for (const word of this.#sets.values()) found.add(`set_slots ${word & 0xffff_ffffn}`);
    return found;
  }

  #checkSet(slot: number): void {
    const from = new DataView(this.#mustHold('set_slots', slot).buffer);
    for (let index = 0; index < from.getUint32(SET_SLOT.count, true); index++) {
      const base = from.getUint32(SET_SLOT.layers + index * SET_LAYER.size + SET_LAYER.base, true);
      if (base !== 0) this.#mustHold('arena', base);
    }
  }

  #checkEndpoint(slot: number): void {
    const from = new DataView(this.#mustHold('endpoint_slots', slot).buffer);
    if ((from.getUint32(ENDPOINT.flags, true) & 1) === 0) return;
    for (const field of [ENDPOINT.egressSet, ENDPOINT.ingressSet]) {
      assert.ok(this.#sets.get(from.getUint32(field, true)), 'an endpoint with a set that is not there');
    }
  }

  #mustHold(table: RecordName, index: number): Uint8Array {
    const found = this.#records.get(`${table} ${index}`);
    assert.ok(found, `${table}[${index}] is pointed to before it is written`);
    return found;
  }
}

describe('layouts', () => {
  it('have the sizes that the programs address by', () => {
    assert.deepEqual([ARENA_RECORD.size, CLASS_KEY.size, ENDPOINT.size], [16, 8, 80]);
  });
});

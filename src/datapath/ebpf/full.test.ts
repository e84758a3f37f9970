// Tables of policy that are full to the last element: whom they are about is denied, everybody else goes on, and it opens
// again as soon as there is room. Each map is made small, and asked by frames through the kernel programs. Needs root.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import type { Interval, Step } from '#compile/plan.ts';
import { STATE } from '#datapath/ebpf/encode/abi.gen.ts';
import { NumbersUsedUpError } from '#datapath/ebpf/encode/sink.ts';
import type { DropReason } from '#datapath/port.ts';
import { closeObject, getPinned, handleOf, lookupElement, testRun, updateBatch } from '#kernel/bpf.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { UDP } from '#net/protocol.ts';
import { frame } from '#test/support/frames.ts';
import {
  endpointStep,
  ground,
  identitySteps,
  interval,
  isolatingSet,
  prefixStep,
  WORLD,
} from '#test/support/hand-plan.ts';
import { needsRoot } from '#test/support/needs.ts';
import { address, type BedPod, PodBed } from '#test/support/pod-bed.ts';
import { tablesPath } from './generations.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from './open.ts';
import { type Injection, inject } from './test-run.ts';

const SMALL = { ct_map: 1280, arena: 4096 };
const EVERYTHING = [interval(0, 0xff_ffff, 'allow', 1)];
const NOTHING = [interval(0, 0xff_ffff, 'deny', 2)];

/** Identities 100, 101 … each with one address, 10.8.0.INDEX. */
const peer = (index: number): Address => address(`10.8.0.${index}`);
const identityOf = (index: number): number => 100 + index;
const peers = (count: number): readonly number[] => Array.from({ length: count }, (_, index) => index);
const classesOf = (count: number, table: readonly Interval[]): Map<number, readonly Interval[]> =>
  new Map(peers(count).map((index) => [identityOf(index), table]));

describe('full tables (root)', needsRoot, () => {
  let bed: PodBed;
  let made = 0;

  before(() => {
    mountBpffs();
    bed = new PodBed('full', 3);
  });

  after(() => bed.destroy());

  type Use = (node: { readonly datapath: EbpfDatapath; readonly asks: Ask }) => void | Promise<void>;
  /** Why a datagram from an address to a pod is dropped; `none` where it passes. */
  type Ask = (from: Address, to: BedPod) => DropReason;

  async function onNode(sizes: Readonly<Record<string, number>>, use: Use, knobs = {}): Promise<void> {
    const instance = `${bed.prefix}-${++made}`;
    const options = { instance, node: 'node-a', sizes: { ...SMALL, ...sizes }, knobs: { dropWindow: 0n, ...knobs } };
    const datapath = openDatapath(options);
    let port = 1000;
    const asks: Ask = (from, to) => {
      const told = inject(datapath, meeting(from, to, port++));
      return told.verdict === 'drop' ? (told.events.find(({ kind }) => kind === 'drop')?.reason ?? 'none') : 'none';
    };
    try {
      for (const pod of bed.pods) datapath.attach(pod.link);
      await use({ datapath, asks });
      assert.equal(datapath.failure, null);
    } finally {
      datapath.detachAll();
      datapath.close();
      unpinDatapath(instance, 'node-a');
    }
  }

  /** What is lacking, as `table count`. */
  const lacking = ({ lacks }: EbpfDatapath): string => lacks.map(({ table, count }) => `${table} ${count}`).join();

  const world = (count: number): Step[] => [
    ...ground(),
    ...peers(count).flatMap((index) => identitySteps(identityOf(index), [peer(index)])),
  ];

  it('denies the peers whose class found no room, and no others; each opens as soon as another one goes', async () => {
    await onNode({ class_map: 8 }, ({ datapath, asks }) => {
      const [a, b] = [bed.pod(0), bed.pod(1)];
      datapath.apply([
        ...world(12),
        ...isolatingSet(7, 70, classesOf(2, EVERYTHING)),
        ...isolatingSet(8, 80, classesOf(12, EVERYTHING)),
        endpointStep(a.v4, { ingress: 7 }, a.name),
        endpointStep(b.v4, { ingress: 8 }, b.name),
      ]);
      assert.equal(lacking(datapath), 'class_map 6');
      assert.equal(datapath.lacks[0]?.rule, 1, 'a rule that it is about is named');
      assert.deepEqual(
        peers(12).map((index) => asks(peer(index), b)),
        peers(12).map((index) => (index < 6 ? 'none' : 'policy')),
      );
      assert.deepEqual([asks(peer(0), a), asks(peer(5), a)], ['none', 'policy']);
      datapath.apply([
        { kind: 'class', layer: 8, identity: identityOf(0), value: null },
        { kind: 'class', layer: 8, identity: identityOf(11), value: null },
      ]);
      assert.equal(lacking(datapath), 'class_map 4');
      assert.deepEqual([asks(peer(0), b), asks(peer(6), b), asks(peer(7), b)], ['policy', 'none', 'policy']);
      datapath.apply(peers(6).map((index) => ({ kind: 'class', layer: 8, identity: identityOf(index), value: null })));
      assert.equal(lacking(datapath), '');
      assert.deepEqual([asks(peer(10), b), asks(peer(11), b)], ['none', 'policy']);
    });
  });

  it('closes a layer alone where a class that denies found no room', async () => {
    await onNode({ class_map: 4 }, ({ datapath, asks }) => {
      const [a, b] = [bed.pod(0), bed.pod(1)];
      const open: Step[] = [
        ...peers(6).flatMap((index): Step[] => [
          { kind: 'table', table: 900 + index, value: NOTHING },
          ...(index === 0 ? [{ kind: 'layer', layer: 9, value: { base: null } } as const] : []),
          { kind: 'class', layer: 9, identity: identityOf(index), value: 900 + index },
        ]),
        { kind: 'set', set: 9, value: { layers: [9] } },
      ];
      datapath.apply([
        ...world(6),
        ...isolatingSet(7, 70, classesOf(1, EVERYTHING)),
        ...open,
        endpointStep(a.v4, { ingress: 7 }, a.name),
        endpointStep(b.v4, { ingress: 9 }, b.name),
      ]);
      assert.equal(lacking(datapath), 'class_map 3');
      assert.deepEqual([asks(peer(5), b), asks(address('192.0.2.9'), b)], ['table-error', 'table-error']);
      assert.deepEqual([asks(peer(0), a), asks(peer(1), a)], ['none', 'policy']);
      datapath.apply(peers(3).map((index) => ({ kind: 'class', layer: 9, identity: identityOf(index), value: null })));
      assert.equal(lacking(datapath), '');
      assert.deepEqual([asks(peer(5), b), asks(address('192.0.2.9'), b), asks(peer(0), b)], ['policy', 'none', 'none']);
    });
  });

  it('lets a class that found no room be another one meanwhile, and be taken away', async () => {
    await onNode({ class_map: 1 }, ({ datapath, asks }) => {
      const b = bed.pod(1);
      const classOf = (table: readonly Interval[]): Step[] => [{ kind: 'table', table: 701, value: table }];
      datapath.apply([
        ...world(2),
        ...isolatingSet(8, 80, classesOf(1, EVERYTHING)),
        { kind: 'table', table: 701, value: EVERYTHING },
        { kind: 'layer', layer: 7, value: { base: null } },
        { kind: 'class', layer: 7, identity: identityOf(0), value: 701 },
        { kind: 'set', set: 7, value: { layers: [7] } },
        endpointStep(b.v4, { ingress: 7 }, b.name),
      ]);
      const outside = address('192.0.2.9');
      assert.deepEqual([asks(peer(0), b), asks(outside, b)], ['none', 'none'], 'no rule denies');
      datapath.apply(classOf(NOTHING));
      assert.deepEqual([asks(peer(0), b), asks(outside, b)], ['table-error', 'table-error']);
      datapath.apply(classOf(EVERYTHING));
      assert.deepEqual([asks(peer(0), b), asks(outside, b)], ['none', 'none']);
      datapath.apply(classOf(NOTHING));
      datapath.apply([{ kind: 'class', layer: 7, identity: identityOf(0), value: null }]);
      assert.deepEqual([asks(peer(0), b), asks(outside, b), lacking(datapath)], ['none', 'none', '']);
    });
  });

  for (const family of [4, 6] as const) {
    it(`denies the addresses (IPv${family}) that find no room, whatever is said of their block`, async () => {
      const of = (index: number): Address => (family === 4 ? peer(index) : address(`2001:db8::${index + 1}`));
      const whole = (index: number): string => `${formatAddress(of(index))}/${family === 4 ? 32 : 128}`;
      await onNode({ address_map_a: 4 }, ({ datapath, asks }) => {
        const b = bed.pod(1);
        const known = peers(6).flatMap((index) => identitySteps(identityOf(index), [of(index)]));
        // Everybody outside may come in, and the last of the pods; a block names one of those for whom no room is left.
        const classes = new Map([
          [WORLD, EVERYTHING],
          [identityOf(5), EVERYTHING],
          [7, EVERYTHING],
        ] as const);
        datapath.apply([
          ...ground(),
          ...identitySteps(7, []),
          prefixStep(whole(4), 7),
          ...known,
          ...isolatingSet(7, 70, classes),
          endpointStep(family === 4 ? b.v4 : b.v6, { ingress: 7 }, b.name),
        ]);
        const stranger = family === 4 ? address('192.0.2.9') : address('2001:db8:9::1');
        assert.equal(lacking(datapath), 'address 2');
        assert.deepEqual(
          peers(6).map((index) => asks(of(index), b)),
          ['policy', 'policy', 'policy', 'policy', 'no-identity', 'no-identity'],
        );
        assert.equal(asks(stranger, b), 'none', 'others go on');
        // Room for one: the block's own word comes back with the address out of it.
        datapath.apply([prefixStep(whole(4), WORLD), { kind: 'address', address: of(4), value: null }]);
        assert.deepEqual([asks(of(4), b), asks(of(5), b)], ['none', 'no-identity']);
        datapath.apply([{ kind: 'address', address: of(0), value: null }]);
        assert.deepEqual([asks(of(0), b), asks(of(5), b), asks(of(1), b)], ['none', 'none', 'policy']);
        assert.equal(lacking(datapath), '');
        datapath.apply([{ kind: 'address', address: of(5), value: null }]);
        assert.equal(asks(of(5), b), 'none', 'what stood for it is gone: it is what its block is');
        datapath.apply([{ kind: 'class', layer: 7, identity: WORLD, value: null }]);
        assert.equal(asks(of(5), b), 'policy');
      });
    });
  }

  it('closes the pods whose policy set found no room, and no others', async () => {
    // The first half is this process's, and place 0 nobody's: three sets, one of which is open.
    await onNode({ set_map: 8, set_slots: 64 }, async ({ datapath, asks }) => {
      const [a, b, c] = [bed.pod(0), bed.pod(1), bed.pod(2)];
      datapath.apply([...world(2), ...isolatingSet(7, 70, classesOf(1, EVERYTHING))]);
      datapath.apply([
        ...isolatingSet(8, 80, classesOf(1, EVERYTHING)),
        ...isolatingSet(9, 90, classesOf(1, EVERYTHING)),
      ]);
      datapath.apply([
        endpointStep(a.v4, { ingress: 7 }, a.name),
        endpointStep(b.v4, { ingress: 8 }, b.name),
        endpointStep(c.v4, { ingress: 9 }, c.name),
      ]);
      assert.equal(lacking(datapath), 'set_map 1');
      assert.deepEqual([asks(peer(0), a), asks(peer(1), b)], ['none', 'policy']);
      assert.equal(asks(peer(0), c), 'table-error');
      datapath.apply([endpointStep(a.v4, {}, a.name), { kind: 'set', set: 7, value: null }]);
      // Its place is free once no packet can read it any more.
      for (let tries = 0; tries < 100 && datapath.lacks.length > 0; tries++) await setTimeout(10);
      assert.deepEqual([lacking(datapath), asks(peer(0), c), asks(peer(1), c)], ['', 'none', 'policy']);
    });
  });

  it('closes the pods whose addresses found no room, and no others; without an interface, IP goes on', async () => {
    for (const table of ['endpoint_map', 'iface_map'] as const) {
      await onNode({ [table]: 2 }, ({ datapath }) => {
        const out = (pod: BedPod): DropReason => {
          const ends = { source: pod.v4, destination: address('192.0.2.9'), sourcePort: 9, destinationPort: 9 };
          const bytes = frame({ ...ends, protocol: UDP, sourceMac: pod.link.mac });
          const told = inject(datapath, { frame: bytes, hook: 'from-pod', interfaceIndex: pod.link.interfaceIndex });
          return told.verdict === 'drop' ? (told.events[0]?.reason ?? 'none') : 'none';
        };
        for (const pod of bed.pods) datapath.attach({ ...pod.link, addresses: [pod.v4] });
        datapath.apply([...world(1), ...bed.pods.map((pod) => endpointStep(pod.v4, {}, pod.name))]);
        assert.equal(lacking(datapath), `${table} 1`);
        assert.deepEqual(bed.pods.map(out), ['none', 'none', table === 'iface_map' ? 'none' : 'spoofed-source']);
        datapath.detach(bed.pod(0).link.interfaceIndex);
        datapath.apply([]);
        assert.equal(lacking(datapath), '');
        assert.equal(out(bed.pod(2)), 'none');
      });
    }
  });

  it('places what found no room beside the tables of the process before, once those are gone', () => {
    const options = { instance: `${bed.prefix}-over`, node: 'node-a', sizes: { ...SMALL, class_map: 8 } };
    const steps = [...world(6), ...isolatingSet(7, 70, classesOf(6, EVERYTHING))];
    const first = openDatapath(options);
    for (const pod of bed.pods) first.attach(pod.link);
    first.apply([...steps, endpointStep(bed.pod(0).v4, { ingress: 7 }, 'a')]);
    first.settle();
    first.close();
    const second = openDatapath(options);
    try {
      second.apply(steps);
      assert.equal(lacking(second), 'class_map 4');
      for (const pod of bed.pods) second.attach(pod.link);
      second.settle();
      assert.equal(lacking(second), '');
    } finally {
      second.detachAll();
      second.close();
      unpinDatapath(options.instance, 'node-a');
    }
  });

  it('closes a node whose numbers are used up, which the next start says again, and opens without its pins', () => {
    const options = { instance: `${bed.prefix}-used`, node: 'node-a', sizes: SMALL };
    const steps = [
      ...world(2),
      ...isolatingSet(7, 70, classesOf(1, EVERYTHING)),
      endpointStep(bed.pod(0).v4, { ingress: 7 }),
    ];
    const start = (use: (datapath: EbpfDatapath) => void): void => {
      const datapath = openDatapath(options);
      try {
        for (const pod of bed.pods) datapath.attach(pod.link);
        use(datapath);
      } finally {
        datapath.detachAll();
        datapath.close();
      }
    };
    const passes = (datapath: EbpfDatapath): boolean =>
      inject(datapath, meeting(peer(0), bed.pod(0), 9)).verdict !== 'drop';
    const isUsedUp = ({ cause }: Error & { cause?: unknown }): boolean => cause instanceof NumbersUsedUpError;
    try {
      start((datapath) => {
        datapath.apply(steps);
        assert.ok(passes(datapath));
      });
      const state = getPinned(`${tablesPath(options.instance, 'node-a')}/state_map`);
      assert.ok(state !== null);
      const value = Buffer.alloc(STATE.size);
      assert.ok(lookupElement(handleOf(state), Buffer.alloc(4), value));
      value.writeBigUInt64LE(0x7fff_fff0n, STATE.high);
      updateBatch(handleOf(state), Buffer.alloc(4), value, 1);
      closeObject(state);
      for (let again = 0; again < 2; again++) {
        start((datapath) => {
          assert.throws(() => datapath.apply(steps), isUsedUp);
          assert.ok(!passes(datapath));
        });
      }
      unpinDatapath(options.instance, 'node-a');
      start((datapath) => {
        datapath.apply(steps);
        assert.ok(passes(datapath));
      });
    } finally {
      unpinDatapath(options.instance, 'node-a');
    }
  });

  it('counts what a full ring of events sheds, to the last one, and denies and lets through as before', async () => {
    const knobs = { dropRate: 1_000_000n, flowRate: 1_000_000n };
    const fill: Use = ({ datapath, asks }) => {
      const [a, b] = [bed.pod(0), bed.pod(1)];
      datapath.apply([
        ...world(1),
        ...isolatingSet(7, 70),
        endpointStep(a.v4, {}, a.name),
        endpointStep(b.v4, { ingress: 7 }, b.name),
      ]);
      datapath.poll();
      const before = datapath.counters();
      const unheard = (to: BedPod, port: number): number => {
        const { frame, interfaceIndex } = meeting(peer(0), to, port);
        return testRun(datapath.program('to_pod'), { frame, interfaceIndex, ingressIndex: 0x7fff_ffff }).returned;
      };
      const denied = peers(100).map((index) => unheard(b, 2000 + index));
      const allowed = peers(20).map((index) => unheard(a, 3000 + index));
      assert.deepEqual([new Set(denied).size, new Set(allowed).size, denied[0] !== allowed[0]], [1, 1, true]);
      const { events, lost } = datapath.poll();
      const now = datapath.counters();
      assert.ok(events.length < 50 && events.length > 0, `${events.length} events`);
      assert.equal(events.length + lost, 120);
      assert.equal((now.drops.get('policy') ?? 0n) - (before.drops.get('policy') ?? 0n), 100n);
      assert.deepEqual([asks(peer(0), b), asks(peer(0), a)], ['policy', 'none'], 'with room, all is told again');
    };
    await onNode({ event_ring: 4096 }, fill, knobs);
  });
});

/** A datagram from an address as it comes to a pod. */
function meeting(from: Address, to: BedPod, sourcePort: number): Injection {
  const destination = from.family === 4 ? to.v4 : to.v6;
  const ends = { source: from, destination, sourcePort, destinationPort: 80, protocol: UDP };
  const bytes = frame({ ...ends, destinationMac: to.link.mac });
  return { frame: bytes, hook: 'to-pod', interfaceIndex: to.link.interfaceIndex };
}

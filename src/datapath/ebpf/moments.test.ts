// Changes that fall into one moment of a packet's way, for which it is made to stand still there: what it was judged by
// no longer holds then, and neither it nor its flow's next packet may be let through by that. Needs root.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import type { Step } from '#compile/plan.ts';
import { udp } from '#datapath/packets.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import type { ProgramFault } from '#test/support/faulty-programs.ts';
import { Gate } from '#test/support/gate.ts';
import { type Place, withGatedPrograms } from '#test/support/gated-programs.ts';
import { endpointStep, ground, identitySteps, interval, isolatingSet } from '#test/support/hand-plan.ts';
import { faultsOf } from '#test/support/holes.ts';
import { needsRoot, needsSources } from '#test/support/needs.ts';
import { PodBed } from '#test/support/pod-bed.ts';
import type { Raced } from '#test/support/racer.ts';
import { tablesPath } from './generations.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from './open.ts';
import { type Injected, inject, verdictOf } from './test-run.ts';

const NODE = 'node-a';
const SIZES = { ct_map: 4096, arena: 4096, class_map: 1024, set_slots: 256, endpoint_slots: 256 };
const [FRIEND, STRANGER] = [5, 6];
/** Lets the friend in, and nobody. */
const [FRIENDLY, CLOSED] = [9, 8];
/** Lets everybody in but the stranger, by a class. */
const GUARDED = 7;
const [OPEN, SHUT] = [700, 701];
const OTHERS = Array.from({ length: 64 }, (_, index) => 100 + index);
const EVERYTHING = [0, 0xff_ffff] as const;

type Verdict = Injected['verdict'];
type Seen = { readonly held: Verdict; readonly next: Verdict };
const DENIED: Seen = { held: 'drop', next: 'drop' };
/** Which element the kernel uses again is its own affair. */
const ROUNDS = 8;

describe('changes while a packet is under way (root)', needsRoot, () => {
  let bed: PodBed;
  let datapath: EbpfDatapath;
  let gate: Gate;
  let port = 0;

  before(() => {
    mountBpffs();
    bed = new PodBed('moments', 2);
  });

  after(() => bed.destroy());

  function open(faults: readonly ProgramFault[]): void {
    withGatedPrograms(faults, (object) => {
      datapath = openDatapath({ instance: bed.prefix, node: NODE, sizes: SIZES, object });
    });
    gate = new Gate(tablesPath(bed.prefix, NODE));
    for (const pod of bed.pods) datapath.attach(pod.link);
    datapath.apply(ground());
    datapath.settle();
  }

  function close(): void {
    gate.close();
    datapath.detachAll();
    datapath.close();
    unpinDatapath(bed.prefix, NODE);
  }

  /** A datagram from pod 0 to pod 1, of a flow of its own. */
  function freshDatagram(): Raced {
    const [a, b] = [bed.pod(0), bed.pod(1)];
    const frame = udp({ from: a.v4, to: b.v4, sourceMac: a.link.mac, sport: ++port, dport: 53 });
    return { program: datapath.program('from_pod'), frame, interfaceIndex: a.link.interfaceIndex };
  }

  function send({ frame, interfaceIndex }: Raced): Verdict {
    return inject(datapath, { frame, interfaceIndex, hook: 'from-pod' }).verdict;
  }

  /** The verdicts of a packet that stands at this place while `change` is made, and of its flow's next one. */
  async function hold(place: Place, packet: Raced, change: () => void): Promise<Seen> {
    const held = verdictOf(await gate.hold(place, packet, change));
    return { held, next: send(packet) };
  }

  /** Pod 0 may speak to pod 1. */
  function befriend(): void {
    const [a, b] = [bed.pod(0), bed.pod(1)];
    datapath.apply([
      ...identitySteps(STRANGER, []),
      ...identitySteps(FRIEND, [a.v4]),
      ...isolatingSet(FRIENDLY, 90, new Map([[FRIEND, [interval(...EVERYTHING, 'allow', 10)]]])),
      ...isolatingSet(CLOSED, 80),
      endpointStep(a.v4, {}, a.name),
      endpointStep(b.v4, { ingress: FRIENDLY }, b.name),
      { kind: 'epoch', sets: [FRIENDLY], peers: [a.v4] },
    ]);
  }

  /** Ways for pod 0 to be denied from now on. */
  function denials(): ReadonlyMap<string, readonly Step[]> {
    const [a, b] = [bed.pod(0), bed.pod(1)];
    const classGone: Step = { kind: 'class', layer: FRIENDLY, identity: FRIEND, value: null };
    const isStranger: Step = { kind: 'address', address: a.v4, value: STRANGER };
    return new Map<string, readonly Step[]>([
      ['another set', [endpointStep(b.v4, { ingress: CLOSED }, b.name)]],
      ['other rules', [classGone, { kind: 'epoch', sets: [FRIENDLY], peers: [] }]],
      ['another peer', [isStranger, { kind: 'epoch', sets: [], peers: [a.v4] }]],
    ]);
  }

  /** A packet that opens its flow, or one of an open flow that is judged anew, has its verdict when a denial comes. */
  async function denyJudged(): Promise<ReadonlyMap<string, Seen>> {
    const seen = new Map<string, Seen>();
    for (const flow of ['new', 'open']) {
      for (const [name, steps] of denials()) {
        befriend();
        const packet = freshDatagram();
        if (flow === 'open') {
          assert.notEqual(send(packet), 'drop');
          datapath.apply([{ kind: 'epoch', sets: [FRIENDLY], peers: [] }]);
        }
        seen.set(`${flow}, ${name}`, await hold('judged', packet, () => datapath.apply(steps)));
      }
    }
    return seen;
  }

  /** Pod 0 may not speak to pod 1, to which everybody else may. */
  function guard(): void {
    const [a, b] = [bed.pod(0), bed.pod(1)];
    datapath.apply([
      ...identitySteps(STRANGER, [a.v4]),
      { kind: 'table', table: OPEN, value: [interval(...EVERYTHING, 'allow', 20)] },
      { kind: 'table', table: SHUT, value: [interval(...EVERYTHING, 'deny', 10)] },
      { kind: 'layer', layer: GUARDED, value: { base: OPEN } },
      classStep(STRANGER, SHUT),
      { kind: 'set', set: GUARDED, value: { layers: [GUARDED] } },
      endpointStep(a.v4, {}, a.name),
      endpointStep(b.v4, { ingress: GUARDED }, b.name),
    ]);
  }

  /**
   * While a packet looks up its sender's class, that is written anew, as it was, but in another element; then those of
   * others, of which one gets the element that it was in.
   */
  async function moveClass(place: 'found' | 'missed'): Promise<readonly Seen[]> {
    guard();
    const seen: Seen[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const steps = [classStep(STRANGER, SHUT), ...OTHERS.map((identity) => classStep(identity, OPEN))];
      seen.push(await hold(place, freshDatagram(), () => datapath.apply(steps)));
      datapath.apply(OTHERS.map((identity) => classStep(identity, null)));
    }
    return seen;
  }

  describe('by the programs', needsSources, () => {
    before(() => open([]));
    after(() => close());

    it('let through no more than the one packet that was judged before', async () => {
      for (const [name, { held, next }] of await denyJudged()) {
        assert.notEqual(held, 'drop', name);
        assert.equal(next, 'drop', name);
      }
    });

    it('have a class looked up again that was missed', async () => {
      for (const seen of await moveClass('missed')) assert.deepEqual(seen, DENIED);
    });

    it('give nobody the class of another key', async () => {
      for (const seen of await moveClass('found')) assert.deepEqual(seen, DENIED);
    });
  });

  describe('by programs with a fault', needsSources, () => {
    afterEach(() => close());

    it('would let a flow go on, were it stored with the epoch of now', async () => {
      open(faultsOf('A verdict is as old as the tables that it was read from'));
      for (const [name, { next }] of await denyJudged()) assert.notEqual(next, 'drop', name);
    });

    it('would let a packet through, were a class that is missed taken for none at once', async () => {
      open(faultsOf('A class that is missed while classes change is looked up again'));
      for (const { held } of await moveClass('missed')) assert.notEqual(held, 'drop');
    });

    it('would let a packet through by the class of another key, were tags not looked at', async () => {
      open(faultsOf('A class is told from another key’s in its element by its tag'));
      const seen = await moveClass('found');
      assert.ok(seen.some(({ held }) => held !== 'drop'));
    });
  });
});

function classStep(identity: number, table: number | null): Step {
  return { kind: 'class', layer: GUARDED, identity, value: table };
}

// Changes that fall into one moment of a packet's way, for which it is made to stand still there: what it was judged by
// no longer holds then, and neither it nor its flow's next packet may be let through by that. Needs root.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Step } from '#compile/plan.ts';
import { udp } from '#datapath/packets.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import type { ProgramFault } from '#test/support/faulty-programs.ts';
import { Gate } from '#test/support/gate.ts';
import { withGatedPrograms } from '#test/support/gated-programs.ts';
import { endpointStep, ground, identitySteps, interval, isolatingSet } from '#test/support/hand-plan.ts';
import { HOLES } from '#test/support/holes.ts';
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
const EVERYTHING = [0, 0xff_ffff] as const;

type Verdict = Injected['verdict'];
type Seen = { readonly held: Verdict; readonly next: Verdict };

describe('changes while a packet is at (root)', needsRoot, () => {
  let bed: PodBed;
  let datapath: EbpfDatapath;
  let gate: Gate;
  let port = 0;

  before(() => {
    mountBpffs();
    bed = new PodBed('moments', 2);
  });

  after(() => bed.destroy());

  async function withGate<T>(faults: readonly ProgramFault[], use: () => Promise<T>): Promise<T> {
    return await withGatedPrograms(faults, async (object) => {
      const knobs = { flowRate: 1_000_000n };
      datapath = openDatapath({ instance: bed.prefix, node: NODE, sizes: SIZES, knobs, object });
      gate = new Gate(tablesPath(bed.prefix, NODE));
      try {
        for (const pod of bed.pods) datapath.attach(pod.link);
        datapath.apply(ground());
        datapath.settle();
        return await use();
      } finally {
        gate.close();
        datapath.detachAll();
        datapath.close();
        unpinDatapath(bed.prefix, NODE);
      }
    });
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

  describe('its verdict, not yet written', () => {
    /** Pod 0 may speak to pod 1. */
    function allow(): void {
      const [a, b] = [bed.pod(0), bed.pod(1)];
      const friends = new Map([[FRIEND, [interval(...EVERYTHING, 'allow', 10)]]]);
      datapath.apply([
        ...identitySteps(STRANGER, []),
        ...identitySteps(FRIEND, [a.v4]),
        ...isolatingSet(FRIENDLY, 90, friends),
        ...isolatingSet(CLOSED, 80),
        endpointStep(a.v4, {}, a.name),
        endpointStep(b.v4, { ingress: FRIENDLY }, b.name),
        { kind: 'epoch', sets: [FRIENDLY], peers: [a.v4] },
      ]);
    }

    /** Ways for pod 0 to be denied from now on. */
    function denials(): ReadonlyMap<string, readonly Step[]> {
      const [a, b] = [bed.pod(0), bed.pod(1)];
      return new Map<string, readonly Step[]>([
        ['another set', [endpointStep(b.v4, { ingress: CLOSED }, b.name)]],
        [
          'other rules',
          [
            { kind: 'class', layer: FRIENDLY, identity: FRIEND, value: null },
            { kind: 'epoch', sets: [FRIENDLY], peers: [] },
          ],
        ],
        [
          'another peer',
          [
            { kind: 'address', address: a.v4, value: STRANGER },
            { kind: 'epoch', sets: [], peers: [a.v4] },
          ],
        ],
      ]);
    }

    /** A packet that opens its flow, or one of an open flow that is judged anew, meets each denial. */
    async function meet(): Promise<ReadonlyMap<string, Seen>> {
      const seen = new Map<string, Seen>();
      for (const flow of ['new', 'open']) {
        for (const [name, steps] of denials()) {
          allow();
          const packet = freshDatagram();
          if (flow === 'open') {
            assert.notEqual(send(packet), 'drop');
            datapath.apply([{ kind: 'epoch', sets: [FRIENDLY], peers: [] }]);
          }
          const held = verdictOf(await gate.hold('judged', packet, () => datapath.apply(steps)));
          seen.set(`${flow}, ${name}`, { held, next: send(packet) });
        }
      }
      return seen;
    }

    it('let through the one packet that was judged before them', needsSources, async () => {
      for (const [name, { held, next }] of await withGate([], meet)) {
        assert.notEqual(held, 'drop', name);
        assert.equal(next, 'drop', name);
      }
    });

    it('would let its flow go on, were it stored with the epoch of now', needsSources, async () => {
      const faults = faultsOf('A verdict is as old as the tables that it was read from');
      for (const [name, { next }] of await withGate(faults, meet)) assert.notEqual(next, 'drop', name);
    });
  });
});

/** As `make teeth` plants them. */
function faultsOf(rule: string): readonly ProgramFault[] {
  const hole = HOLES.find((each) => each.rule === rule);
  assert.ok(hole !== undefined, rule);
  return hole.faults.map((fault) => ({ ...fault, file: fault.file.replace('bpf/', '') }));
}

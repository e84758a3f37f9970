// Upgrades and downgrades between versions whose tables have different layouts: connections go on, or the change is
// refused before it touches anything. Needs root.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { mountBpffs, pinPath } from '#kernel/bpffs.ts';
import { formatAddress } from '#net/address.ts';
import { ATTACH_MODES } from '#test/support/attach-modes.ts';
import type { ProgramFault } from '#test/support/faulty-programs.ts';
import { opensDuring, speaksDuring } from '#test/support/gate-speaker.ts';
import { withGatedPrograms } from '#test/support/gated-programs.ts';
import { endpointStep, ground, isolatingSet } from '#test/support/hand-plan.ts';
import { beforeConnect, connect, hold, speaks } from '#test/support/holder.ts';
import { faultsOf } from '#test/support/holes.ts';
import { needsRoot, needsSources } from '#test/support/needs.ts';
import { makeForeignVersion, makeNextVersion, type OtherVersion } from '#test/support/other-version.ts';
import { type BedPod, PodBed, udpArrives } from '#test/support/pod-bed.ts';
import { listGenerations, tablesPath } from './generations.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from './open.ts';

const SIZES = { ct_map: 2048 };
/** Another version is built here. */
const NEEDS = needsSources.skip === false ? needsRoot : needsSources;

describe('versions with other layouts (root)', NEEDS, () => {
  let next: OtherVersion;

  before(() => {
    mountBpffs();
    next = makeNextVersion();
  });

  after(() => next.remove());

  for (const attach of ATTACH_MODES) {
    describe(`hooks by ${attach}`, () => {
      let bed: PodBed;
      let holder: ChildProcess;
      let datapath: EbpfDatapath | null = null;

      beforeEach(async () => {
        bed = new PodBed(`upgrade-${attach}`, 3);
        holder = await hold(bed, next.root, attach);
      });

      afterEach(() => {
        holder.kill('SIGKILL');
        datapath?.close();
        datapath = null;
        unpinDatapath(bed.prefix, 'node-a');
        bed.destroy();
      });

      const allowed = (port: number): boolean => udpArrives(bed, bed.pod(0), bed.pod(1), { family: 4, port });
      const denied = (port: number): boolean => !udpArrives(bed, bed.pod(0), bed.pod(2), { family: 4, port });
      const generations = (): number => listGenerations(pinPath(bed.prefix, 'node-a')).length;

      async function kill(): Promise<void> {
        holder.kill('SIGKILL');
        await once(holder, 'exit');
      }

      function open(): EbpfDatapath {
        datapath = openDatapath({ instance: bed.prefix, node: 'node-a', attach, sizes: SIZES });
        return datapath;
      }

      function fill(into: EbpfDatapath): void {
        into.apply([...ground(), ...isolatingSet(3, 30)]);
        for (const [index, pod] of bed.pods.entries()) {
          const sets = index === 2 ? { ingress: 3 } : {};
          into.apply(pod.link.addresses.map((each) => endpointStep(each, sets, `pod${index}`)));
        }
      }

      it('carries connections over, those that speak and those that do not', async () => {
        const [speaking, idle] = [8080, 8081].map((port) => connect(bed, bed.pod(0), bed.pod(1), port));
        assert.ok(speaking && idle && speaks(speaking) && speaks(idle) && denied(90));
        await kill();
        const mine = open();
        assert.ok(denied(91) && allowed(91) && speaks(speaking), 'opened');
        for (const pod of bed.pods) mine.attach(pod.link);
        assert.ok(denied(92) && allowed(92) && speaks(speaking), 'attached');
        fill(mine);
        assert.equal(generations(), 2);
        assert.ok(denied(93) && allowed(93) && speaks(speaking), 'filled');
        mine.settle();
        assert.equal(generations(), 1);
        assert.ok(denied(94) && allowed(94), 'settled');
        assert.ok(speaks(speaking) && speaks(idle));
        mine.poll();
        assert.ok(denied(95));
        const rules = mine.poll().events.filter((event) => event.destinationPort === 95);
        assert.deepEqual(
          rules.map((event) => event.ingressRule),
          [30],
          'its own rules judge',
        );
        assert.deepEqual(mine.repair(), [], 'its hooks stand');
      });

      it('goes on where an upgrade was never finished, also back to the version before', async () => {
        const old = connect(bed, bed.pod(0), bed.pod(1), 8080);
        await kill();
        const mine = open();
        for (const pod of bed.pods) mine.attach(pod.link);
        fill(mine);
        mine.close();
        assert.equal(generations(), 2);
        assert.ok(denied(91) && allowed(91) && speaks(old), 'half-way');
        holder = await hold(bed, next.root, attach);
        assert.equal(generations(), 1);
        assert.ok(denied(92) && allowed(92) && speaks(old), 'back');
        await kill();
        const again = open();
        for (const pod of bed.pods) again.attach(pod.link);
        fill(again);
        again.settle();
        assert.ok(denied(93) && allowed(93) && speaks(old) && generations() === 1, 'and forth');
      });

      it('lets a pod that comes meanwhile connect to one that the old programs still judge', async () => {
        await kill();
        const mine = open();
        const late = bed.add(4);
        bed.raise(late);
        try {
          for (const pod of [...bed.pods, late]) mine.attach(pod.link);
          mine.turn();
          fill(mine);
          mine.apply(late.link.addresses.map((each) => endpointStep(each, {}, 'late')));
          mine.refresh();
          const fresh = connect(bed, late, bed.pod(1), 8082);
          mine.settle();
          assert.ok(speaks(fresh));
        } finally {
          mine.detach(late.link.interfaceIndex);
          bed.remove(late);
        }
      });

      it('gives out no number again: a new owner of an address inherits no connection', async () => {
        const old = connect(bed, bed.pod(0), bed.pod(1), 8080);
        await kill();
        const mine = open();
        for (const pod of bed.pods) mine.attach(pod.link);
        fill(mine);
        mine.settle();
        assert.ok(speaks(old));
        const owner: BedPod = bed.pod(1);
        for (let turn = 0; turn < 3; turn++) {
          mine.apply(owner.link.addresses.map((each) => endpointStep(each, {}, `owner${turn}`)));
          assert.ok(!speaks(old), `${formatAddress(owner.v4)} has another owner, the ${turn}th`);
        }
      });
    });
  }

  /** A connection is tried while all hooks have this version's programs and its tables do not have the connection. */
  async function speaksUncarried(faults: readonly ProgramFault[]): Promise<boolean> {
    const bed = new PodBed('upgrade-gate', 3);
    const holder = await hold(bed, next.root);
    let mine: EbpfDatapath | null = null;
    try {
      const ends = connect(bed, bed.pod(0), bed.pod(1), 8080);
      holder.kill('SIGKILL');
      await once(holder, 'exit');
      const options = { instance: bed.prefix, node: 'node-a', sizes: SIZES };
      const opened = withGatedPrograms(faults, (object) => openDatapath({ ...options, object }));
      mine = opened;
      for (const pod of bed.pods) opened.attach(pod.link);
      opened.apply([...ground(), ...bed.pods.map((pod) => endpointStep(pod.v4, {}, pod.name))]);
      const tables = tablesPath(bed.prefix, 'node-a');
      const spoke = await speaksDuring(() => opened.settle(), { tables, place: 'uncarried', ends });
      assert.ok(speaks(ends), 'carried over');
      return spoke;
    } finally {
      holder.kill('SIGKILL');
      mine?.close();
      unpinDatapath(bed.prefix, 'node-a');
      bed.destroy();
    }
  }

  it('looks for connections in the tables of before until they are carried over', needsSources, async () => {
    assert.ok(await speaksUncarried([]));
  });

  it('would cut a connection for a moment, were it not looked for there', needsSources, async () => {
    const faults = faultsOf('Until connections are carried over, they are looked for in the tables of before');
    assert.ok(!(await speaksUncarried(faults)));
  });

  it(
    'carries over what begins in the oldest tables meanwhile, where an upgrade was never finished',
    needsSources,
    async () => {
      const third = makeNextVersion(1);
      const bed = new PodBed('upgrade-thrice', 3);
      let holder = await hold(bed, third.root);
      let mine: EbpfDatapath | null = null;
      const end = async (): Promise<void> => {
        holder.kill('SIGKILL');
        await once(holder, 'exit');
      };
      try {
        await end();
        holder = await hold(bed, next.root, undefined, { unsettled: true });
        await end();
        const options = { instance: bed.prefix, node: 'node-a', sizes: SIZES };
        const opened = withGatedPrograms([], (object) => openDatapath({ ...options, object }));
        mine = opened;
        assert.equal(listGenerations(pinPath(bed.prefix, 'node-a')).length, 3);
        for (const pod of bed.pods) opened.attach(pod.link);
        opened.apply([...ground(), ...bed.pods.map((pod) => endpointStep(pod.v4, {}, pod.name))]);
        const asking = beforeConnect(bed, bed.pod(0), bed.pod(1), 8080);
        const tables = tablesPath(bed.prefix, 'node-a');
        const ends = await opensDuring(() => opened.settle(), { tables, place: 'carried', asking });
        assert.equal(listGenerations(pinPath(bed.prefix, 'node-a')).length, 1);
        assert.ok(speaks(ends));
      } finally {
        holder.kill('SIGKILL');
        mine?.close();
        unpinDatapath(bed.prefix, 'node-a');
        bed.destroy();
        third.remove();
      }
    },
  );

  it('refuses tables that it can’t read, and leaves them in force', async () => {
    const foreign = makeForeignVersion('initiator');
    const bed = new PodBed('upgrade-foreign', 3);
    const holder = await hold(bed, foreign.root);
    try {
      const open = connect(bed, bed.pod(0), bed.pod(1), 8080);
      holder.kill('SIGKILL');
      await once(holder, 'exit');
      const pins = (): readonly string[] => readdirSync(tablesPath(bed.prefix, 'node-a')).sort();
      const before = pins();
      const refused = (): unknown => openDatapath({ instance: bed.prefix, node: 'node-a', sizes: SIZES });
      assert.throws(refused, {
        name: 'DatapathError',
        message:
          /another version's, and this one can't take them over; they stay in force: .*ct_value has no field initiator/,
      });
      assert.deepEqual(pins(), before);
      assert.equal(listGenerations(pinPath(bed.prefix, 'node-a')).length, 1);
      assert.ok(udpArrives(bed, bed.pod(0), bed.pod(1), { family: 4, port: 90 }) && speaks(open));
      assert.ok(!udpArrives(bed, bed.pod(0), bed.pod(2), { family: 4, port: 90 }));
    } finally {
      holder.kill('SIGKILL');
      unpinDatapath(bed.prefix, 'node-a');
      bed.destroy();
      foreign.remove();
    }
  });
});

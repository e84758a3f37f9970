// A client outside of the node while all hooks turn to tables of another layout: it is answered at that moment, too. An
// agent killed there leaves the node so. Needs root.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { mountBpffs } from '#kernel/bpffs.ts';
import * as sockets from '#kernel/sockets.ts';
import { TCP } from '#net/protocol.ts';
import { inside } from '#test/support/conversation.ts';
import type { ProgramFault } from '#test/support/faulty-programs.ts';
import { speaksDuring } from '#test/support/gate-speaker.ts';
import { withGatedPrograms } from '#test/support/gated-programs.ts';
import { endpointStep, ground, isolatingSet } from '#test/support/hand-plan.ts';
import { connectBy, type Ends, hold, speaks } from '#test/support/holder.ts';
import { addOutside, NODE_ADDRESSES, removeOutside } from '#test/support/kills/outside.ts';
import { needsRoot, needsSources } from '#test/support/needs.ts';
import { makeNextVersion } from '#test/support/other-version.ts';
import { type BedPod, PodBed } from '#test/support/pod-bed.ts';
import { tablesPath } from './generations.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from './open.ts';

const NODE_PORT = 30_080;
const LISTENS = 8080;
const SERVER = 1;
const CLOSED = 9;

describe(
  'clients outside over a change of layouts (root)',
  needsSources.skip === false ? needsRoot : needsSources,
  () => {
    const next = { root: '', remove: () => {} };

    before(() => {
      mountBpffs();
      Object.assign(next, makeNextVersion());
    });

    after(() => next.remove());

    /** Whether an open connection of theirs speaks while all hooks have this version's programs, and the upgrade stands there. */
    async function speaksBetween(faults: readonly ProgramFault[]): Promise<boolean> {
      const bed = new PodBed('upgrade-outside', 3);
      const outside = addOutside(bed.prefix, bed.pod(SERVER).v4, 'h2');
      const at = { address: NODE_ADDRESSES[4], protocol: TCP, port: NODE_PORT, scope: 'outside' } as const;
      const service = {
        ...({ address: '192.0.2.1', protocol: TCP, port: NODE_PORT, scope: 'outside' } as const),
        ...{ backend: '10.9.0.2', listens: LISTENS },
      };
      const held = await hold(bed, next.root, undefined, { services: [service] });
      let mine: EbpfDatapath | null = null;
      try {
        const ends = connectFrom(outside, bed, bed.pod(SERVER));
        const silent = connectFrom(outside, bed, bed.pod(SERVER));
        assert.ok(speaks(ends), 'the version before');
        held.kill('SIGKILL');
        await once(held, 'exit');
        const options = { instance: bed.prefix, node: 'node-a', sizes: { ct_map: 2048 } };
        const opened = withGatedPrograms(faults, (object) => openDatapath({ ...options, object }));
        mine = opened;
        for (const pod of bed.pods) opened.attach(pod.link);
        const backends = [{ address: bed.pod(SERVER).v4, port: LISTENS }];
        opened.apply([
          ...ground(),
          { kind: 'node', node: 'node-a', value: Object.values(NODE_ADDRESSES) },
          ...bed.pods.map((pod) => endpointStep(pod.v4, {}, pod.name)),
          { kind: 'service', at, value: { ...at, backends, places: [0] } },
        ]);
        opened.refresh();
        assert.ok(speaks(ends), 'before hooks change');
        const tables = tablesPath(bed.prefix, 'node-a');
        const spoke = await speaksDuring(() => opened.settle(), { tables, place: 'uncarried', ends });
        assert.ok(speaks(ends), 'when they have');
        assert.ok(speaks(silent), 'that said nothing meanwhile');
        const closed = endpointStep(bed.pod(SERVER).v4, { ingress: CLOSED }, bed.pod(SERVER).name);
        opened.apply([...isolatingSet(CLOSED, 70), closed]);
        assert.ok(!speaks(ends) && !speaks(silent), 'that policy denies from now on');
        return spoke;
      } finally {
        held.kill('SIGKILL');
        mine?.detachAll();
        mine?.close();
        unpinDatapath(bed.prefix, 'node-a');
        removeOutside(outside);
        bed.destroy();
      }
    }

    it('go on at every moment', async () => {
      assert.ok(await speaksBetween([]));
    });

    it('would be left without answers, were these to skip a pod’s link only where every other may be skipped', async () => {
      const from = 'c->source.flags & ENDPOINT_PLAIN';
      assert.ok(!(await speaksBetween([{ file: 'deliver.h', from, to: 'c->source.flags & ENDPOINT_REDIRECT' }])));
    });
  },
);

/** A TCP connection of a machine beside the node to a pod, by the node's port. */
function connectFrom(outside: string, bed: PodBed, to: BedPod): Ends {
  const open = (): number => inside(`/run/netns/${outside}`, () => sockets.openSocket(4, 'stream'));
  return connectBy(bed, open, to, { port: LISTENS, asked: { address: NODE_ADDRESSES[4], port: NODE_PORT } });
}

// A client outside whose backend is at another node, while all hooks turn to tables of another layout, and over a change of
// agents: the node goes on to speak for it. Needs root.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { mountBpffs } from '#kernel/bpffs.ts';
import * as sockets from '#kernel/sockets.ts';
import { TCP } from '#net/protocol.ts';
import { inside } from '#test/support/conversation.ts';
import { speaksDuring } from '#test/support/gate-speaker.ts';
import { withGatedPrograms } from '#test/support/gated-programs.ts';
import { endpointStep, ground } from '#test/support/hand-plan.ts';
import { accepts, type Ends, hold, listensAt, speaks } from '#test/support/holder.ts';
import { addOutside, addRemote, NODE_ADDRESSES, removeOutside } from '#test/support/kills/outside.ts';
import { needsRoot, needsSources } from '#test/support/needs.ts';
import { makeNextVersion } from '#test/support/other-version.ts';
import { address, PodBed } from '#test/support/pod-bed.ts';
import { tablesPath } from './generations.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from './open.ts';

const REMOTE = '10.10.0.9';
const NODE_PORT = 30_080;
const LISTENS = 8080;
const AT = { address: NODE_ADDRESSES[4], protocol: TCP, port: NODE_PORT, scope: 'outside' } as const;
const HELD = {
  ...({ address: '192.0.2.1', protocol: TCP, port: NODE_PORT, scope: 'outside' } as const),
  ...{ backend: REMOTE, listens: LISTENS },
};

type Version = 'same' | 'another';

/** Connections of a client outside over a change of agents, one of which says nothing meanwhile. */
async function change(from: Version, nextRoot: string): Promise<void> {
  const bed = new PodBed(`upgrade-forward-${from}`, 3);
  const outside = addOutside(bed.prefix, bed.pod(1).v4, 'h2');
  addRemote(bed.prefix, REMOTE);
  const held = await hold(bed, from === 'another' ? nextRoot : undefined, undefined, { services: [HELD] });
  let mine: EbpfDatapath | null = null;
  try {
    const [ends, silent] = [connectFrom(outside), connectFrom(outside)];
    assert.ok(speaks(ends), 'the agent before');
    held.kill('SIGKILL');
    await once(held, 'exit');
    assert.ok(speaks(ends), 'no agent');
    const opened = withGatedPrograms([], (object) => {
      return openDatapath({ instance: bed.prefix, node: 'node-a', sizes: { ct_map: 2048 }, object });
    });
    mine = opened;
    for (const pod of bed.pods) opened.attach(pod.link);
    opened.apply([
      ...ground(),
      { kind: 'node', node: 'node-a', value: Object.values(NODE_ADDRESSES) },
      ...bed.pods.map((pod) => endpointStep(pod.v4, {}, pod.name)),
      {
        kind: 'service',
        at: AT,
        value: { ...AT, backends: [{ address: address(REMOTE), port: LISTENS }], places: [0] },
      },
    ]);
    opened.refresh();
    assert.ok(speaks(ends), 'before hooks change');
    if (from === 'same') opened.settle();
    else {
      const tables = tablesPath(bed.prefix, 'node-a');
      const spoke = await speaksDuring(() => opened.settle(), { tables, place: 'uncarried', ends });
      assert.ok(spoke, 'while they do');
    }
    assert.ok(speaks(ends), 'when they have');
    assert.ok(speaks(silent), 'that said nothing meanwhile');
    opened.apply([{ kind: 'service', at: AT, value: null }]);
    assert.ok(speaks(ends), 'whose Service has gone');
    assert.ok(opened.counters().forwarded > 0n);
  } finally {
    held.kill('SIGKILL');
    mine?.detachAll();
    mine?.close();
    unpinDatapath(bed.prefix, 'node-a');
    removeOutside(outside);
    bed.destroy();
  }
}

/** A TCP connection of a machine beside the node, by the node's port, to a backend there. */
function connectFrom(outside: string): Ends {
  const path = `/run/netns/${outside}`;
  const open = (): number => inside(path, () => sockets.openSocket(4, 'stream'));
  const listener = listensAt(open(), { address: address(REMOTE), port: LISTENS });
  const client = open();
  const server = accepts({ listener, client, asked: { address: AT.address, port: NODE_PORT } });
  sockets.closeSocket(listener);
  assert.ok(server !== null, 'the connection opens');
  return { client, server };
}

describe('clients outside at backends of other nodes', needsSources.skip === false ? needsRoot : needsSources, () => {
  const next = { root: '', remove: () => {} };

  before(() => {
    mountBpffs();
    Object.assign(next, makeNextVersion());
  });

  after(() => next.remove());

  it('go on over a change of agents', async () => await change('same', next.root));

  it('go on at every moment of a change of layouts', async () => await change('another', next.root));
});

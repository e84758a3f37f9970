// A mark that somebody's program ahead of ours gives a packet is for this node's rules. Past the stack, nothing but ours
// clears it. Needs root.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { attachTcx, closeObject } from '#kernel/bpf.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import * as sockets from '#kernel/sockets.ts';
import { attachFilter, createClsact } from '#kernel/tc.ts';
import { withFaultyPrograms } from '#test/support/faulty-programs.ts';
import { endpointStep, ground } from '#test/support/hand-plan.ts';
import { faultsOf } from '#test/support/holes.ts';
import { needsRoot, needsSources } from '#test/support/needs.ts';
import { type BedPod, PodBed, waitFor } from '#test/support/pod-bed.ts';
import { Witness } from '#test/support/witness.ts';
import { hasTcx } from './hooks.ts';
import { openDatapath, unpinDatapath } from './open.ts';

const SIZES = { ct_map: 4400, arena: 4096 };
const PORT = 53;

/** Of a flow's two datagrams: how many arrived, how many past the stack, how many with a mark. */
type Seen = { readonly arrived: number; readonly past: bigint; readonly marked: number };

describe('a mark set ahead of our hooks (root)', { skip: needsRoot.skip || needsSources.skip }, () => {
  let bed: PodBed;
  let witness: Witness;
  let links: number[] = [];

  beforeEach(() => {
    mountBpffs();
    bed = new PodBed('marks', 2);
    witness = new Witness('marked');
  });

  afterEach(() => {
    for (const link of links) closeObject(link);
    links = [];
    witness.close();
    unpinDatapath(bed.prefix, 'node-a');
    bed.destroy();
  });

  /** One pod's packets are marked as they come to its hook; what the other one's own link sees of the mark. */
  function marked(programs: { readonly object?: string }): Seen {
    const datapath = openDatapath({ instance: bed.prefix, node: 'node-a', sizes: SIZES, ...programs });
    const [a, b] = [bed.pod(0), bed.pod(1)];
    try {
      for (const pod of bed.pods) datapath.attach(pod.link);
      datapath.apply([...ground(), ...[a, b].map((pod) => endpointStep(pod.v4, {}, pod.name))]);
      datapath.settle();
      put(witness.marker, a.link.interfaceIndex);
      sockets.inNetns(b.netns, () => put(witness.program, ownLink(b)));
      const before = datapath.counters().redirected;
      const arrived = sendTwo(a, b);
      return { arrived, past: datapath.counters().redirected - before, marked: witness.seen() };
    } finally {
      datapath.detachAll();
      datapath.close();
    }
  }

  /** Ahead of all others where a packet comes in; it goes with the interface. */
  function put(program: number, interfaceIndex: number): void {
    if (hasTcx()) {
      links.push(attachTcx(program, interfaceIndex, 'ingress'));
      return;
    }
    createClsact(interfaceIndex);
    attachFilter(interfaceIndex, 'ingress', { priority: 1, handle: 7 }, program);
  }

  function ownLink({ name }: BedPod): number {
    const args = ['-n', `${bed.prefix}-${name}`, '-j', 'link', 'show', 'eth0'];
    const [link] = JSON.parse(execFileSync('ip', args, { encoding: 'utf8' })) as { readonly ifindex: number }[];
    return link?.ifindex ?? 0;
  }

  function sendTwo(a: BedPod, b: BedPod): number {
    const server = bed.socket(b, () => sockets.openSocket(4, 'datagram'));
    const client = bed.socket(a, () => sockets.openSocket(4, 'datagram'));
    try {
      sockets.bindSocket(server, b.v4, PORT);
      const arrives = (): boolean => {
        sockets.sendSocket(client, Buffer.from('moat'), { address: b.v4, port: PORT });
        return waitFor(() => sockets.receiveSocket(server, Buffer.alloc(64)).kind === 'done');
      };
      return [1, 2].filter(arrives).length;
    } finally {
      bed.close(server);
      bed.close(client);
    }
  }

  it('is cleared where packets go past the stack into a pod, of new flows and of open ones', () => {
    assert.deepEqual(marked({}), { arrived: 2, past: 2n, marked: 0 });
  });

  it('would reach the pod, were it not', () => {
    const faults = faultsOf('No mark goes along past the stack into a pod');
    const seen = withFaultyPrograms(faults, (object) => marked({ object }));
    assert.deepEqual(seen, { arrived: 2, past: 2n, marked: 2 });
  });
});

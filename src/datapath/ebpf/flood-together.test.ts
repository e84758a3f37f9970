// Many pods of one tenant against the rest of a node: one after the other, and coming and going. Needs root.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import { SHARE } from '#datapath/ebpf/encode/abi.gen.ts';
import { allKeys, closeObject, getPinned, handleOf, lookupElement, type MapHandle, testRun } from '#kernel/bpf.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import type { Address } from '#net/address.ts';
import { TCP, UDP } from '#net/protocol.ts';
import { type FrameFields, frame } from '#test/support/frames.ts';
import { endpointStep, ground } from '#test/support/hand-plan.ts';
import { needsRoot } from '#test/support/needs.ts';
import { address, type BedPod, PodBed } from '#test/support/pod-bed.ts';
import { tablesPath } from './generations.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from './open.ts';

const OUTSIDE = address('203.0.113.9');
const NODE = 'node-a';
const PLACES = 256;
const QUEUE_PARTS = 64;
/** Enough that each took three quarters of what the one before it left, when nothing was held back. */
const ATTACKERS = 9;

type Sender = {
  readonly link: { readonly interfaceIndex: number; readonly mac: Uint8Array };
  readonly v4: Address;
};

describe('floods of many pods (root)', needsRoot, () => {
  let bed: PodBed;
  let datapath: EbpfDatapath;

  before(() => {
    mountBpffs();
    bed = new PodBed('together', ATTACKERS + 1);
    const sizes = { ct_map: 2 * PLACES, arena: 4096, queue_map: QUEUE_PARTS };
    datapath = openDatapath({ instance: bed.prefix, node: NODE, sizes });
    for (const pod of bed.pods) datapath.attach(pod.link);
    datapath.apply([...ground(), ...bed.pods.map((pod) => endpointStep(pod.v4, {}, pod.name))]);
    datapath.settle();
  });

  after(() => {
    datapath.detachAll();
    datapath.close();
    unpinDatapath(bed.prefix, NODE);
    bed.destroy();
  });

  function within<T>(map: string, use: (handle: MapHandle) => T): T {
    const fd = getPinned(`${tablesPath(bed.prefix, NODE)}/${map}`);
    assert.ok(fd !== null);
    try {
      return use(handleOf(fd));
    } finally {
      closeObject(fd);
    }
  }
  const count = (map: string): number => within(map, (handle) => allKeys(handle).length);
  const assured = (): number => {
    const all = Buffer.alloc(SHARE.size);
    within('total_map', (handle) => lookupElement(handle, Buffer.alloc(4), all));
    return Number(all.readBigInt64LE(SHARE.assured));
  };
  const send = ({ link, v4 }: Sender, rest: Omit<FrameFields, 'source' | 'destination'>): boolean => {
    const fields = { sourceMac: link.mac, source: v4, destination: OUTSIDE, ...rest };
    const run = { frame: frame(fields), interfaceIndex: link.interfaceIndex, ingressIndex: link.interfaceIndex };
    return testRun(datapath.program('from_pod'), run).returned !== 2;
  };
  const answer = (pod: BedPod, flags: string, port: number): boolean => {
    const fields = {
      source: OUTSIDE,
      destination: pod.v4,
      protocol: TCP,
      flags,
      sourcePort: 80,
      destinationPort: port,
    };
    const { interfaceIndex } = pod.link;
    const run = { frame: frame(fields), interfaceIndex, ingressIndex: 0x7fff_ffff };
    return testRun(datapath.program('to_pod'), run).returned !== 2;
  };
  const syn = (sourcePort: number, flags = 'S') => ({ protocol: TCP, flags, sourcePort, destinationPort: 80 });
  const opens = (pod: BedPod, port: number): boolean =>
    send(pod, syn(port)) && answer(pod, 'SA', port) && send(pod, syn(port, 'A'));
  const attackers = (): readonly BedPod[] => bed.pods.slice(0, ATTACKERS);

  it('pods that fill the table of young flows one after the other, and keep it so, leave room for others', () => {
    const victim = bed.pod(ATTACKERS);
    for (const round of [0, 1, 2]) {
      for (const pod of attackers()) for (let n = 0; n < PLACES; n++) send(pod, syn(1024 + n));
      assert.ok(send(victim, { protocol: UDP, sourcePort: 2000 + round, destinationPort: 53 }), `round ${round}`);
      assert.ok(send(victim, syn(3000 + round)), `round ${round}`);
      datapath.moveClock(50);
      datapath.sweep();
    }
  });

  it('pods that open all the connections they may one after the other leave room for others', () => {
    const victim = bed.pod(ATTACKERS);
    datapath.moveClock(600);
    datapath.sweep();
    for (const pod of attackers()) for (let n = 0; n < PLACES && opens(pod, 5000 + n); n++);
    assert.ok(assured() > PLACES / 2);
    assert.ok(opens(victim, 4000));
  });

  it('pods that come, speak and go leave nothing in the queues', () => {
    const own = address('10.99.0.1');
    const victim = bed.pod(ATTACKERS);
    datapath.moveClock(100_000);
    for (let sweep = 0; sweep < 3; sweep++) datapath.sweep();
    const before = count('queue_map');
    for (let n = 0; n < QUEUE_PARTS; n++) {
      const name = `w${process.pid}n${n}`;
      execFileSync('ip', ['link', 'add', name, 'type', 'veth', 'peer', 'name', `${name}p`]);
      try {
        const [{ ifindex }] = JSON.parse(execFileSync('ip', ['-j', 'link', 'show', name], { encoding: 'utf8' }));
        const link = { interfaceIndex: ifindex as number, mac: Uint8Array.of(2, 9, 9, 9, 9, n), addresses: [own] };
        datapath.attach(link);
        datapath.apply([endpointStep(own, {}, name)]);
        assert.ok(send({ link, v4: own }, { protocol: UDP, sourcePort: 1024, destinationPort: 53 }), `pod ${n}`);
        datapath.apply([{ kind: 'endpoint', address: own, value: null }]);
        datapath.detach(link.interfaceIndex);
      } finally {
        execFileSync('ip', ['link', 'del', name]);
      }
      datapath.moveClock(300);
      datapath.sweep();
      datapath.sweep();
    }
    assert.ok(count('queue_map') <= before + 1, `${count('queue_map')} parts, ${before} before`);
    assert.ok(send(victim, { protocol: UDP, sourcePort: 6000, destinationPort: 53 }));
  });
});

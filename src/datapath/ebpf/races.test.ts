// Packets of the same few flows on several CPUs at once, which open, close, replace and push out one another: what each
// pod takes of the tables is counted right all the same. Needs root.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { SHARE } from '#datapath/ebpf/encode/abi.gen.ts';
import { tcp, udp } from '#datapath/packets.ts';
import { allKeys, closeObject, getPinned, handleOf, lookupElement, type MapHandle } from '#kernel/bpf.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import { withFaultyPrograms } from '#test/support/faulty-programs.ts';
import { endpointStep, ground } from '#test/support/hand-plan.ts';
import { needsRoot, needsSources } from '#test/support/needs.ts';
import { PodBed } from '#test/support/pod-bed.ts';
import { type Raced, Racer } from '#test/support/racer.ts';
import { tablesPath } from './generations.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from './open.ts';

const NODE = 'node-a';
/** So few that a pod's flows push each other out all the time. */
const PLACES = 2;
const RACERS = 3;
const ROUNDS = 2000;

describe('flows on several CPUs at once (root)', needsRoot, () => {
  let bed: PodBed;

  before(() => {
    mountBpffs();
    bed = new PodBed('races', 2);
  });

  after(() => bed.destroy());

  /** What is left in the tables and counted once all has raced and expired; once more, until a share stays taken. */
  async function race(times: number, object?: string): Promise<Left> {
    const options = { instance: bed.prefix, node: NODE, sizes: { ct_map: 2 * PLACES, arena: 4096 } };
    const datapath = openDatapath(object === undefined ? options : { ...options, object });
    try {
      for (const pod of bed.pods) datapath.attach(pod.link);
      datapath.apply([...ground(), ...bed.pods.map((pod) => endpointStep(pod.v4, {}, pod.name))]);
      datapath.settle();
      const packets = segments(datapath.program('from_pod'));
      for (let time = 1; ; time++) {
        const racers = Array.from({ length: RACERS }, () => new Racer(packets));
        for (const racer of racers) await racer.reach(ROUNDS);
        for (const racer of racers) await racer.stop();
        const left = whatIsLeft(datapath);
        if (time === times || left.shares.some(({ assured }) => assured !== 0)) return left;
      }
    } finally {
      datapath.detachAll();
      datapath.close();
      unpinDatapath(bed.prefix, NODE);
    }
  }

  /** A connection from its SYN to its reset, and datagrams that take its room. */
  function segments(program: number): readonly Raced[] {
    const [a, b] = [bed.pod(0), bed.pod(1)];
    const ask = { from: a.v4, to: b.v4, sourceMac: a.link.mac, sport: 40_000, dport: 80 };
    const reply = { from: b.v4, to: a.v4, sourceMac: b.link.mac, sport: 80, dport: 40_000 };
    const byClient = (frame: Uint8Array): Raced => ({ program, frame, interfaceIndex: a.link.interfaceIndex });
    return [
      byClient(tcp({ ...ask, flags: 'S' })),
      { program, frame: tcp({ ...reply, flags: 'SA' }), interfaceIndex: b.link.interfaceIndex },
      ...['A', 'R'].map((flags) => byClient(tcp({ ...ask, flags }))),
      ...[1, 2, 3].map((sport) => byClient(udp({ ...ask, sport }))),
    ];
  }

  function whatIsLeft(datapath: EbpfDatapath): Left {
    const { evicted } = datapath.counters();
    datapath.moveClock(3 * 86_400);
    for (let sweep = 0; sweep < 3; sweep++) datapath.sweep();
    return {
      evicted: Number(evicted),
      flows: within('ct_map', (map) => allKeys(map).length),
      shares: ['share_map', 'total_map'].flatMap((name) => within(name, sharesOf)),
    };
  }

  function within<T>(name: string, use: (map: MapHandle) => T): T {
    const fd = getPinned(`${tablesPath(bed.prefix, NODE)}/${name}`);
    assert.ok(fd !== null);
    try {
      return use(handleOf(fd));
    } finally {
      closeObject(fd);
    }
  }

  it('leave nothing behind, and nobody’s share taken', async () => {
    const { evicted, flows, shares } = await race(2);
    assert.ok(evicted > 1000, `${evicted} gave way`);
    assert.equal(flows, 0);
    for (const share of shares) assert.deepEqual(share, { assured: 0, places: 0 });
  });

  it('would leave shares taken, if an element were replaced that another CPU moves', needsSources, async () => {
    const fault = {
      file: 'stage.h',
      from: 'return !(before.flags & ENTRY_FROZEN) && move_stage(live, before, frozen);',
      to: 'return frozen.word != 0 && live != 0;',
    };
    const { shares } = await withFaultyPrograms([fault], (object) => race(20, object));
    assert.ok(shares.some(({ assured }) => assured !== 0));
  });
});

type Share = { readonly assured: number; readonly places: number };
type Left = { readonly evicted: number; readonly flows: number; readonly shares: readonly Share[] };

function sharesOf(map: MapHandle): readonly Share[] {
  return allKeys(map).map((key) => {
    const value = Buffer.alloc(SHARE.size);
    assert.ok(lookupElement(map, key, value));
    const read = (field: number): number => Number(value.readBigInt64LE(field));
    return { assured: read(SHARE.assured), places: read(SHARE.head) - read(SHARE.tail) };
  });
}

// Tables of Services that are full: who finds no room is refused, by name; others are served, and room that comes back is used. Needs root.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import type { Step } from '#compile/plan.ts';
import { type PortSpec, tcp, udp } from '#datapath/packets.ts';
import { allKeys, closeObject, getPinned, handleOf } from '#kernel/bpf.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { TCP, UDP } from '#net/protocol.ts';
import { maglevPlaces, sortedBackends } from '#service/maglev.ts';
import { endpointStep, ground } from '#test/support/hand-plan.ts';
import { needsRoot } from '#test/support/needs.ts';
import { address, PodBed } from '#test/support/pod-bed.ts';
import { tablesPath } from './generations.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from './open.ts';
import { inject } from './test-run.ts';

const SERVICES: readonly Address[] = [1, 2, 3, 4].map((number) => address(`10.96.0.${number}`));
const FLOWS = 8;

/** Backends of a Service, which no other one has. */
function backendsOf(service: number, count: number): readonly { readonly address: Address; readonly port: number }[] {
  return sortedBackends(
    Array.from({ length: count }, (_, at) => ({ address: address(`203.0.113.${service * 16 + at}`), port: 8080 })),
  );
}

/** Who serves UDP and TCP there from now on; 0 = the Service is gone. */
function serve(service: number, count: number): readonly Step[] {
  return [UDP, TCP].map((protocol): Step => {
    const at = { address: SERVICES[service] ?? address('::'), protocol, port: 80 };
    const backends = backendsOf(service, count);
    return { kind: 'service', at, value: count === 0 ? null : { ...at, backends, places: maglevPlaces(backends) } };
  });
}

describe('full tables of Services (root)', needsRoot, () => {
  let bed: PodBed;

  before(() => {
    mountBpffs();
    bed = new PodBed('full-services', 1);
  });
  after(() => bed.destroy());

  async function onNode(
    sizes: Readonly<Record<string, number>>,
    use: (node: Node) => void | Promise<void>,
  ): Promise<void> {
    const datapath = openDatapath({ instance: bed.prefix, node: 'node-a', sizes: { ct_map: 1280, ...sizes } });
    try {
      for (const pod of bed.pods) datapath.attach(pod.link);
      datapath.apply([...ground(), endpointStep(bed.pod(0).v4, {}, 'client')]);
      datapath.settle();
      await use(new Node(datapath));
      assert.equal(datapath.failure, null);
    } finally {
      datapath.detachAll();
      datapath.close();
      unpinDatapath(bed.prefix, 'node-a');
    }
  }

  class Node {
    readonly datapath: EbpfDatapath;

    constructor(datapath: EbpfDatapath) {
      this.datapath = datapath;
    }

    /** What is lacking, as `table count`. */
    get lacking(): string {
      return this.datapath.lacks.map(({ table, count }) => `${table} ${count}`).join();
    }

    /** The same once what is on its way out is gone: packets under way may still read it. */
    async lackingAtLast(): Promise<string> {
      for (let tries = 0; tries < 100 && this.lacking !== ''; tries++) await setTimeout(10);
      return this.lacking;
    }

    /** Where the pod's packet to a Service goes: `backend`, one of its own; else the reason of its drop, or the address. */
    asks(service: number, sport: number, make: (spec: PortSpec) => Uint8Array = udp): string {
      const { v4, link } = bed.pod(0);
      const to = SERVICES[service] ?? v4;
      const frame = make({ from: v4, to, sport, dport: 80, sourceMac: link.mac });
      const met = inject(this.datapath, { hook: 'from-pod', interfaceIndex: link.interfaceIndex, frame });
      const drop = met.events.find(({ kind }) => kind === 'drop');
      if (drop !== undefined) return drop.reason;
      const there = met.frame.subarray(30, 34).join('.');
      return backendsOf(service, 16).some((each) => formatAddress(each.address) === there) ? 'backend' : there;
    }
  }

  // Of two ports each; a bank has half of an array, without its element 0.
  for (const { table, size, has, lacks } of [
    { table: 'service_slots', size: 10, has: 2, lacks: 'service_slots 2' },
    { table: 'service_places', size: 2 * (4 * 24) + 20, has: 2, lacks: 'service_places 2' },
    { table: 'backend_slots', size: 2 * (4 * 3) + 4, has: 2, lacks: 'backend_slots 2' },
  ]) {
    it(`${table}: the Service that finds no room is refused, others go on; it is served once another one goes`, async () => {
      await onNode({ [table]: size }, async (node) => {
        for (let service = 0; service <= has; service++) node.datapath.apply(serve(service, 3));
        assert.equal(node.lacking, lacks);
        const all = Array.from({ length: has }, () => 'backend');
        const asked = (sport: number): readonly string[] =>
          SERVICES.slice(0, has + 1).map((_, at) => node.asks(at, sport));
        assert.deepEqual(asked(1000), [...all, 'no-backend']);
        assert.equal(node.asks(has, 1000, tcp), 'no-backend');
        node.datapath.apply(serve(0, 0));
        assert.equal(await node.lackingAtLast(), '');
        assert.deepEqual(asked(2000).slice(1), all);
        assert.equal(node.asks(has, 2000, tcp), 'backend');
      });
    });

    it(`${table}: a Service that changes where there is no room any more is refused, and no backend of before is asked`, async () => {
      await onNode({ [table]: size }, async (node) => {
        for (let service = 0; service <= has; service++) node.datapath.apply(serve(service, service === has ? 2 : 3));
        for (let turn = 0; turn < 8; turn++) {
          node.datapath.apply(serve(turn % 2, turn % 4 < 2 ? 2 : 3));
          const found = node.asks(turn % 2, 3000 + turn);
          const isLacking = node.lacking !== '';
          assert.ok(found === 'backend' || (isLacking && found === 'no-backend'), `${found}, lacking ${node.lacking}`);
        }
        node.datapath.apply(serve(has, 0));
        assert.equal(await node.lackingAtLast(), '');
        assert.deepEqual(
          [0, 1].map((service) => node.asks(service, 4000)),
          ['backend', 'backend'],
        );
      });
    });
  }

  it('translation_map: a flow that finds no room is refused, those that stand go on; room that comes back is used', async () => {
    await onNode({ translation_map: FLOWS }, (node) => {
      node.datapath.apply(serve(0, 3));
      const ask = (from: number): readonly string[] =>
        Array.from({ length: FLOWS }, (_, at) => node.asks(0, from + at));
      assert.deepEqual(new Set(ask(1000)), new Set(['backend']));
      assert.deepEqual(new Set(ask(2000)), new Set(['conntrack-full']));
      assert.equal(node.asks(0, 3000, tcp), 'conntrack-full');
      assert.deepEqual(new Set(ask(1000)), new Set(['backend']));
      assert.equal(node.datapath.counters().drops.get('conntrack-full'), BigInt(FLOWS + 1));
      node.datapath.moveClock(3600);
      node.datapath.sweep();
      assert.deepEqual(new Set(ask(2000)), new Set(['backend']));
    });
  });

  it('affinity_map: nobody is refused where clients find no room, and there are never more of them', async () => {
    await onNode({ affinity_map: 64 }, (node) => {
      const ports = Array.from({ length: 512 }, (_, index) => 1000 + index);
      const backends = backendsOf(0, 3);
      node.datapath.apply(
        ports.map((port): Step => {
          const at = { address: SERVICES[0] ?? address('::'), protocol: UDP, port };
          return {
            kind: 'service',
            at,
            value: { ...at, affinitySeconds: 60, backends, places: maglevPlaces(backends) },
          };
        }),
      );
      for (const dport of ports)
        assert.equal(
          node.asks(0, 10 * dport, (spec) => udp({ ...spec, dport })),
          'backend',
        );
      const map = getPinned(`${tablesPath(bed.prefix, 'node-a')}/affinity_map`);
      assert.ok(map !== null);
      const clients = allKeys(handleOf(map)).length;
      closeObject(map);
      assert.ok(clients > 0 && clients <= 64, `${clients} clients`);
    });
  });
});

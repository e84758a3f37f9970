// Flows to Services when the process that knew them goes: to a successor, to another layout, or half-way. Needs root.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import type { Backend, ServiceClients, Step } from '#compile/plan.ts';
import { tcp, udp } from '#datapath/packets.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import type * as sockets from '#kernel/sockets.ts';
import type { Address } from '#net/address.ts';
import { hostCidr } from '#net/cidr.ts';
import { TCP, UDP } from '#net/protocol.ts';
import { maglevPlaces, sortedBackends } from '#service/maglev.ts';
import { Conversation, MOMENT_MS, talks } from '#test/support/conversation.ts';
import { endpointStep, ground, isolatingSet } from '#test/support/hand-plan.ts';
import { hold } from '#test/support/holder.ts';
import { needsRoot, needsSources } from '#test/support/needs.ts';
import { makeNextVersion } from '#test/support/other-version.ts';
import { address, type BedPod, PodBed } from '#test/support/pod-bed.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from './open.ts';
import { inject } from './test-run.ts';

const SERVICE = address('10.96.0.1');
const ANOTHER = address('10.96.0.2');
const LISTENS = 8080;
const CLOSED = 9;
/** As many flows, so that not all of them are chosen the same by chance. */
const FLOWS = 8;
const OPTIONS = { node: 'node-a', sizes: { ct_map: 2048 } };

type How = {
  readonly of?: Address;
  readonly port?: number;
  readonly affinitySeconds?: number;
  readonly clients?: ServiceClients;
};

function serve(protocol: number, by: readonly Backend[], how: How = {}): Step {
  const { of = SERVICE, port = 80, ...affinity } = how;
  const at = { address: of, protocol, port };
  const backends = sortedBackends(by);
  return { kind: 'service', at, value: { ...at, ...affinity, backends, places: maglevPlaces(backends) } };
}

describe('Services after their process (root)', needsRoot, () => {
  let bed: PodBed;
  let datapath: EbpfDatapath | null = null;

  before(() => mountBpffs());

  beforeEach(() => {
    bed = new PodBed('service-takeover', 3);
  });

  afterEach(() => {
    datapath?.detachAll();
    datapath?.close();
    datapath = null;
    unpinDatapath(bed.prefix, 'node-a');
    bed.destroy();
  });

  const backend = (index: number, port = LISTENS): Backend => ({ address: bed.pod(index).v4, port });
  const netnsOf = (pod: BedPod): string => `/run/netns/${bed.prefix}-${pod.name}`;
  const talk = (server: number, to: sockets.Peer, at = LISTENS): Conversation =>
    new Conversation({
      protocol: UDP,
      ...{ client: netnsOf(bed.pod(0)), server: netnsOf(bed.pod(server)) },
      ...{ to, at: backend(server, at) },
    });

  /** A process that knows all of this. */
  function start(...steps: readonly Step[]): EbpfDatapath {
    datapath?.close();
    const next = openDatapath({ instance: bed.prefix, ...OPTIONS });
    datapath = next;
    for (const pod of bed.pods) next.attach(pod.link);
    next.apply([
      ...ground(),
      ...bed.pods.flatMap(({ link, name }) => link.addresses.map((each) => endpointStep(each, {}, name))),
    ]);
    next.apply(steps);
    return next;
  }

  it('datagrams of a flow that stands stay with their backend, also when others come after the next start', () => {
    const ports = Array.from({ length: FLOWS }, (_, index) => ({ port: 1000 + index, at: 2000 + index }));
    const services = (...servers: readonly number[]): readonly Step[] =>
      ports.map(({ port, at }) =>
        serve(
          UDP,
          servers.map((server) => backend(server, at)),
          { port },
        ),
      );
    start(...services(1)).settle();
    const flows = ports.map(({ port, at }) => talk(1, { address: SERVICE, port }, at));
    const speak = (when: string): void => {
      for (const [index, flow] of flows.entries()) assert.ok(flow.exchange(1), `${index} ${when}`);
    };
    speak('begins');
    const next = start(...services(1));
    next.settle();
    speak('goes on');
    next.apply(services(1, 2));
    speak('stays');
    for (const flow of flows) flow.close();
  });

  it('clients that a Service keeps stay with their backend', () => {
    // As many Services, for the first flow after a start decides where the client of one stays from then on.
    const ports = Array.from({ length: FLOWS }, (_, index) => 80 + index);
    const services = ports.map((port) => serve(TCP, [backend(1), backend(2)], { port, affinitySeconds: 100 }));
    const { interfaceIndex, mac } = bed.pod(0).link;
    const seen = new Map(ports.map((port) => [port, new Set<string>()]));
    let sport = 4000;
    for (let turn = 0; turn < 2; turn++) {
      const next = start(...services);
      next.settle();
      for (const port of ports) {
        for (let flow = 0; flow < FLOWS; flow++) {
          const frame = tcp({ from: bed.pod(0).v4, to: SERVICE, sport: sport++, dport: port, sourceMac: mac });
          const met = inject(next, { hook: 'from-pod', interfaceIndex, frame });
          seen.get(port)?.add(Buffer.from(met.frame.subarray(30, 34)).join('.'));
        }
      }
    }
    for (const [port, backends] of seen) assert.equal(backends.size, 1, `${port}: ${[...backends].join()}`);
    const all = new Set([...seen.values()].flatMap((backends) => [...backends]));
    assert.equal(all.size, 2, 'another Service, another backend');
  });

  it('who is a client stays one over the next start, and who is none any more then begins nothing by what stands', () => {
    const { interfaceIndex, mac } = bed.pod(0).link;
    const own = { blocks: [hostCidr(bed.pod(0).v4)], node: false };
    const other = { blocks: [hostCidr(bed.pod(1).v4)], node: false };
    const asks = (datapath: EbpfDatapath, make: typeof udp, sport: number): boolean => {
      const frame = make({ from: bed.pod(0).v4, to: SERVICE, sport, dport: 80, sourceMac: mac });
      const met = inject(datapath, { hook: 'from-pod', interfaceIndex, frame });
      return Buffer.from(met.frame.subarray(30, 34)).readUInt32BE() === bed.pod(1).v4.words[0];
    };
    const both = (clients: ServiceClients): Step[] =>
      [UDP, TCP].map((protocol) => serve(protocol, [backend(1)], { clients }));
    const first = start(...both(own));
    first.settle();
    assert.deepEqual([asks(first, udp, 5000), asks(first, tcp, 5000)], [true, true]);
    const second = start(...both(own));
    assert.ok(asks(second, udp, 5000));
    second.settle();
    assert.deepEqual([asks(second, udp, 5000), asks(second, tcp, 5001)], [true, true]);
    const third = start(...both(other));
    third.settle();
    for (const sport of [5000, 5001, 5002]) {
      assert.deepEqual([asks(third, udp, sport), asks(third, tcp, sport)], [false, false], `${sport}`);
    }
  });

  it('what a start that never ended left of a Service leads nobody to another one', () => {
    // Two, so that the bank with fewer of them is that of the next one.
    start(...[80, 81].map((port) => serve(UDP, [backend(1)], { port }))).settle();
    datapath?.close();
    const given = openDatapath({ instance: bed.prefix, ...OPTIONS });
    given.apply([serve(UDP, [backend(1)], { of: ANOTHER })]);
    given.close();
    datapath = null;
    const next = openDatapath({ instance: bed.prefix, ...OPTIONS });
    datapath = next;
    next.apply([serve(UDP, [backend(2)])]);
    const wrong = talk(2, { address: ANOTHER, port: 80 });
    assert.equal(wrong.exchange(1, MOMENT_MS), false, 'it is another Service’s backend');
    wrong.close();
    for (const pod of bed.pods) next.attach(pod.link);
    next.apply([
      ...ground(),
      ...bed.pods.flatMap(({ link, name }) => link.addresses.map((each) => endpointStep(each, {}, name))),
    ]);
    next.apply([serve(UDP, [backend(1)], { of: ANOTHER })]);
    next.settle();
    const right = talk(1, { address: ANOTHER, port: 80 });
    assert.ok(right.exchange(2));
    right.close();
  });

  it('Services that a start turned before it died serve on at the next one, until that says more', () => {
    const services = [UDP, TCP].map((protocol) => serve(protocol, [backend(1)]));
    const opens = (): boolean =>
      talks({
        protocol: TCP,
        ...{ client: netnsOf(bed.pod(0)), server: netnsOf(bed.pod(1)) },
        ...{ to: { address: SERVICE, port: 80 }, at: backend(1) },
      });
    start(...services).settle();
    assert.ok(opens());
    datapath?.close();
    const given = openDatapath({ instance: bed.prefix, ...OPTIONS });
    given.apply(services);
    assert.ok(opens(), 'by what the second said');
    given.close();
    const next = openDatapath({ instance: bed.prefix, ...OPTIONS });
    datapath = next;
    assert.ok(opens(), 'while the third has said nothing');
    next.close();
    datapath = start();
    assert.ok(opens(), 'while a fourth was told of nobody who serves');
    datapath.settle();
    assert.equal(opens(), false, 'and not a moment longer');
  });
});

describe('Services over a change of layouts (root)', needsSources.skip === false ? needsRoot : needsSources, () => {
  const next = { root: '', remove: () => {} };

  before(() => {
    mountBpffs();
    Object.assign(next, makeNextVersion());
  });

  after(() => next.remove());

  it('connections go on, those that speak meanwhile and those that do not; datagrams too', () => upgrade(false));

  it('connections go on whose Service is gone by then', () => upgrade(true));

  async function upgrade(gone: boolean): Promise<void> {
    const bed = new PodBed('service-upgrade', 3);
    const parts = [
      { protocol: TCP, port: 80 },
      { protocol: TCP, port: 81 },
      { protocol: UDP, port: 80 },
    ] as const;
    const services = parts.map(({ protocol, port }) => ({
      ...{ address: '10.96.0.1', protocol, port },
      ...{ backend: '10.9.0.2', listens: 8000 + port },
    }));
    const held = await hold(bed, next.root, undefined, { services });
    let mine: EbpfDatapath | null = null;
    try {
      const netns = (index: number): string => `/run/netns/${bed.prefix}-${bed.pod(index).name}`;
      const conversations = parts.map(({ protocol, port }) => {
        const at = { address: bed.pod(1).v4, port: 8000 + port };
        return new Conversation({ protocol, client: netns(0), server: netns(1), to: { address: SERVICE, port }, at });
      });
      const [speaks, idle, datagrams] = conversations;
      assert.ok(speaks && idle && datagrams);
      for (const each of conversations) assert.ok(each.exchange(2));
      held.kill('SIGKILL');
      await once(held, 'exit');
      mine = openDatapath({ instance: bed.prefix, ...OPTIONS });
      for (const pod of bed.pods) mine.attach(pod.link);
      mine.apply([...ground(), ...bed.pods.map((pod) => endpointStep(pod.v4, {}, pod.name))]);
      const { v4 } = bed.pod(1);
      const still = gone ? [] : parts;
      mine.apply(still.map(({ protocol, port }) => serve(protocol, [{ address: v4, port: 8000 + port }], { port })));
      assert.ok(speaks.exchange(1), 'before hooks change');
      mine.settle();
      assert.ok(speaks.exchange(2), 'that spoke');
      assert.ok(idle.exchange(2), 'that did not');
      assert.equal(datagrams.exchange(2, MOMENT_MS), !gone, 'datagrams');
      mine.sweep();
      assert.ok(idle.exchange(1), 'after a sweep');
      mine.apply([...isolatingSet(CLOSED, 70), endpointStep(v4, { ingress: CLOSED }, bed.pod(1).name)]);
      // Without their Service datagrams have ended before.
      for (const each of gone ? [speaks, idle] : conversations) {
        assert.equal(each.exchange(1, MOMENT_MS), false, 'that policy denies from now on');
      }
      for (const each of conversations) each.close();
    } finally {
      held.kill('SIGKILL');
      mine?.detachAll();
      mine?.close();
      unpinDatapath(bed.prefix, 'node-a');
      bed.destroy();
    }
  }

  it('clients on the node itself are sent off all the while: by the version before, until the next one’s tables are whole', async () => {
    const bed = new PodBed('host-upgrade', 3);
    const service = { address: '10.96.0.1', protocol: TCP, port: 80, backend: '10.9.0.2', listens: 8080 };
    const held = await hold(bed, next.root, undefined, { services: [service] });
    let mine: EbpfDatapath | null = null;
    const reaches = (server: number): boolean => {
      const [client, netns] = ['router', bed.pod(server).name].map((name) => `/run/netns/${bed.prefix}-${name}`);
      const at = { address: bed.pod(server).v4, port: 8080 };
      return talks({
        protocol: TCP,
        client: client ?? '',
        server: netns ?? '',
        to: { address: SERVICE, port: 80 },
        at,
      });
    };
    try {
      assert.deepEqual([reaches(1), reaches(2)], [true, false]);
      held.kill('SIGKILL');
      await once(held, 'exit');
      assert.deepEqual([reaches(1), reaches(2)], [true, false], 'while nobody runs');
      mine = openDatapath({ instance: bed.prefix, ...OPTIONS, hostClients: true });
      for (const pod of bed.pods) mine.attach(pod.link);
      mine.apply([...ground(), ...bed.pods.map((pod) => endpointStep(pod.v4, {}, pod.name))]);
      mine.apply([serve(TCP, [{ address: bed.pod(2).v4, port: 8080 }])]);
      mine.refresh();
      assert.deepEqual([reaches(1), reaches(2)], [true, false], 'before the tables are whole');
      mine.settle();
      assert.deepEqual([reaches(1), reaches(2)], [false, true]);
      assert.deepEqual(mine.complaints, []);
    } finally {
      held.kill('SIGKILL');
      mine?.close();
      unpinDatapath(bed.prefix, 'node-a');
      bed.destroy();
    }
  });
});

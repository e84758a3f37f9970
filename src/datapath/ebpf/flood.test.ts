// One pod floods the node's tables, every way it can; another loses nothing by it. Needs root.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Step } from '#compile/plan.ts';
import { SHARE } from '#datapath/ebpf/encode/abi.gen.ts';
import { allKeys, closeObject, getPinned, handleOf, lookupElement, type MapHandle, testRun } from '#kernel/bpf.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import type { Address } from '#net/address.ts';
import { ICMP, ICMPV6, TCP, UDP } from '#net/protocol.ts';
import { maglevPlaces } from '#service/maglev.ts';
import { type ProgramFault, withFaultyPrograms } from '#test/support/faulty-programs.ts';
import { type FrameFields, frame } from '#test/support/frames.ts';
import { endpointStep, ground, identitySteps, interval, isolatingSet, WORLD } from '#test/support/hand-plan.ts';
import { needsRoot, needsSources } from '#test/support/needs.ts';
import { address, type BedPod, PodBed } from '#test/support/pod-bed.ts';
import { tablesPath } from './generations.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from './open.ts';

type Family = 4 | 6;

/** Somebody outside; a Service, and who alone serves it, at the port that is asked for. */
const ENDS = {
  4: { outside: address('203.0.113.9'), service: address('10.96.0.1'), backend: address('203.0.113.77') },
  6: { outside: address('2001:db8::9'), service: address('fd96::1'), backend: address('2001:db8::77') },
} as const;
/** Places in each table of flows. A flood is ten times as many. */
const PLACES = 256;
const FLOOD = 10 * PLACES;
const NODE = 'node-a';
const ATTACKER = 5;

/** What the programs return of a packet that is dropped. */
const DROP = 2;

type Ports = { readonly sourcePort: number; readonly destinationPort: number };
type Rest = Omit<FrameFields, 'source' | 'destination'>;

const reversed = ({ sourcePort, destinationPort }: Ports): Ports => ({
  sourcePort: destinationPort,
  destinationPort: sourcePort,
});
const tcp = (flags: string, ports: Ports): Rest => ({ protocol: TCP, flags, ...ports });
const udp = (ports: Ports): Rest => ({ protocol: UDP, ...ports });
/** A port of its own for each n, from 1024. */
const nth = (n: number): Ports => ({ sourcePort: 1024 + (n % 64_000), destinationPort: 80 });

function serve(family: Family, protocol: number): Step {
  const { service, backend } = ENDS[family];
  const at = { address: service, protocol, port: 80 };
  const backends = [{ address: backend, port: 80 }];
  return { kind: 'service', at, value: { ...at, backends, places: maglevPlaces(backends) } };
}

/** Two pods, the attacker and the victim, and the world outside, of one family. */
class Siege {
  readonly bed: PodBed;
  readonly family: Family;
  readonly datapath: EbpfDatapath;
  readonly attacker: BedPod;
  readonly victim: BedPod;

  constructor(bed: PodBed, family: Family, object?: string) {
    this.bed = bed;
    this.family = family;
    [this.attacker, this.victim] = [bed.pod(0), bed.pod(1)];
    const sizes = { ct_map: 2 * PLACES, arena: 4096, drop_map: 8192 };
    const options = { instance: bed.prefix, node: NODE, sizes };
    this.datapath = openDatapath(object === undefined ? options : { ...options, object });
    for (const pod of bed.pods) this.datapath.attach(pod.link);
    const web = [interval((TCP << 16) | 80, (TCP << 16) | 80, 'allow', 8)];
    this.datapath.apply([
      ...ground(),
      ...identitySteps(ATTACKER, [this.addressOf(this.attacker)]),
      // To the victim comes what answers it, and TCP to port 80: a flow that is lost shows.
      ...isolatingSet(9, 90, new Map([WORLD, ATTACKER].map((peer) => [peer, web]))),
      endpointStep(this.addressOf(this.attacker), {}, 'attacker'),
      endpointStep(this.addressOf(this.victim), { ingress: 9 }, 'victim'),
      ...[TCP, UDP].map((protocol) => serve(family, protocol)),
    ]);
  }

  close(): void {
    this.datapath.detachAll();
    this.datapath.close();
    unpinDatapath(this.bed.prefix, NODE);
  }

  addressOf(pod: BedPod): Address {
    return this.family === 4 ? pod.v4 : pod.v6;
  }

  /** What a pod sends: to the world, or to another pod. Whether it passes. */
  out(pod: BedPod, rest: Rest, to: Address = ENDS[this.family].outside): boolean {
    const fields = { sourceMac: pod.link.mac, source: this.addressOf(pod), destination: to, ...rest };
    return this.#run(pod, 'from_pod', fields);
  }

  /** What a pod is sent by the world. */
  in(pod: BedPod, rest: Rest, from: Address = ENDS[this.family].outside): boolean {
    return this.#run(pod, 'to_pod', { source: from, destination: this.addressOf(pod), ...rest });
  }

  /** Whether what a pod sends to the Service passes, to its backend. */
  asks(pod: BedPod, rest: Rest): boolean {
    const { service, backend } = ENDS[this.family];
    const fields = { sourceMac: pod.link.mac, source: this.addressOf(pod), destination: service, ...rest };
    const { returned, frame: sent } = this.#met(pod, 'from_pod', fields);
    return returned !== DROP && stands(backend, sent, this.family === 4 ? 30 : 38);
  }

  /** Whether what the backend sends passes to a pod, as the Service's. */
  tells(pod: BedPod, rest: Rest): boolean {
    const { service, backend } = ENDS[this.family];
    const fields = { source: backend, destination: this.addressOf(pod), ...rest };
    const { returned, frame: got } = this.#met(pod, 'to_pod', fields);
    return returned !== DROP && stands(service, got, this.family === 4 ? 26 : 22);
  }

  #run(pod: BedPod, program: 'from_pod' | 'to_pod', fields: FrameFields): boolean {
    return this.#met(pod, program, fields).returned !== DROP;
  }

  #met(pod: BedPod, program: 'from_pod' | 'to_pod', fields: FrameFields): ReturnType<typeof testRun> {
    const { interfaceIndex } = pod.link;
    const ingressIndex = program === 'from_pod' ? interfaceIndex : 0x7fff_ffff;
    return testRun(this.datapath.program(program), { frame: frame(fields), interfaceIndex, ingressIndex });
  }

  keys(map: string): readonly Uint8Array[] {
    return this.#pinned(map, allKeys);
  }

  values(map: string): readonly Buffer[] {
    const keys = this.keys(map);
    return this.#pinned(map, (handle) =>
      keys.map((key) => {
        const value = Buffer.alloc(handle.valueSize);
        assert.ok(lookupElement(handle, key, value));
        return value;
      }),
    );
  }

  #pinned<T>(map: string, use: (map: MapHandle) => T): T {
    const fd = getPinned(`${tablesPath(this.bed.prefix, NODE)}/${map}`);
    assert.ok(fd !== null);
    try {
      return use(handleOf(fd));
    } finally {
      closeObject(fd);
    }
  }
}

/** What the victim has when the flood begins; each says whether it still stands. */
function holdings(siege: Siege): ReadonlyMap<string, () => boolean> {
  const { victim } = siege;
  const [opened, answered, asked, half] = [nth(1), nth(2), nth(3), nth(4)];
  const [stream, question, sent, told] = [nth(5), nth(6), nth(7), nth(8)];
  const ok = (passes: boolean): void => assert.ok(passes);
  for (const ports of [opened, answered]) {
    const [mine, theirs] = ports === opened ? (['out', 'in'] as const) : (['in', 'out'] as const);
    ok(siege[mine](victim, tcp('S', ports)));
    ok(siege[theirs](victim, tcp('SA', reversed(ports))));
    ok(siege[mine](victim, tcp('A', ports)));
  }
  ok(isServed(siege, victim, sent));
  for (const [way, ports] of [
    ['out', stream],
    ['asks', told],
  ] as const) {
    ok(siege[way](victim, udp(ports)));
    ok(siege[way === 'out' ? 'in' : 'tells'](victim, udp(reversed(ports))));
  }
  siege.datapath.moveClock(3);
  ok(siege.out(victim, udp(stream)));
  ok(siege.asks(victim, udp(told)));
  ok(siege.out(victim, udp(question)));
  ok(siege.out(victim, tcp('S', half)));
  ok(siege.out(victim, echo(siege.family, 'request', asked.sourcePort)));
  ok(siege.out(victim, firstFragment(7)));
  return new Map([
    ['a connection that it opened', () => siege.in(victim, tcp('A', reversed(opened)))],
    ['a connection that it was asked for', () => siege.out(victim, tcp('A', reversed(answered)))],
    ['a stream of datagrams', () => siege.in(victim, udp(reversed(stream)))],
    [
      'a connection to the Service',
      () => siege.tells(victim, tcp('A', reversed(sent))) && siege.asks(victim, tcp('A', sent)),
    ],
    ['datagrams to the Service', () => siege.asks(victim, udp(told)) && siege.tells(victim, udp(reversed(told)))],
    ['an answer to a question', () => siege.in(victim, udp(reversed(question)))],
    ['an answer to a SYN', () => siege.in(victim, tcp('SA', reversed(half)))],
    ['an echo', () => siege.in(victim, echo(siege.family, 'reply', asked.sourcePort))],
    ['a new question', () => siege.out(victim, udp(nth(20))) && siege.in(victim, udp(reversed(nth(20))))],
    ['a new connection', () => opens(siege, victim, nth(21))],
    ['a new connection to it', () => isAsked(siege, victim, nth(22))],
    ['a new connection to the Service', () => isServed(siege, victim, nth(23))],
  ]);
}

function opens(siege: Siege, pod: BedPod, ports: Ports): boolean {
  return (
    siege.out(pod, tcp('S', ports)) && siege.in(pod, tcp('SA', reversed(ports))) && siege.out(pod, tcp('A', ports))
  );
}

function isAsked(siege: Siege, pod: BedPod, ports: Ports): boolean {
  return siege.in(pod, tcp('S', ports)) && siege.out(pod, tcp('SA', reversed(ports))) && siege.in(pod, tcp('A', ports));
}

function isServed(siege: Siege, pod: BedPod, ports: Ports): boolean {
  return (
    siege.asks(pod, tcp('S', ports)) && siege.tells(pod, tcp('SA', reversed(ports))) && siege.asks(pod, tcp('A', ports))
  );
}

/** Whether this address stands there in a frame. */
function stands({ words }: Address, bytes: Uint8Array, at: number): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return words.every((word, index) => view.getUint32(at + 4 * index) === word);
}

function echo(family: Family, way: 'request' | 'reply', id: number): Rest {
  const [protocol, request, reply] = family === 4 ? [ICMP, 8, 0] : [ICMPV6, 128, 129];
  return { protocol, icmp: { type: way === 'request' ? request : reply, id } };
}

function firstFragment(id: number): Rest {
  const payload = Buffer.alloc(32);
  payload.writeUInt16BE(4000, 0);
  payload.writeUInt16BE(53, 2);
  return { protocol: UDP, fragment: { id, offset: 0, more: true }, payload };
}

/** What a pod, or the world with it, can send without end. `full` tells how it is stopped. */
type Attack = {
  readonly name: string;
  /** By IPv4 alone where none is said. */
  readonly families?: readonly Family[];
  readonly full: 'evicted' | 'conntrack-full' | 'mid-flow';
  readonly packet: (siege: Siege, n: number) => unknown;
};

const ATTACKS: readonly Attack[] = [
  {
    name: 'SYNs to every port of the world',
    families: [4, 6],
    full: 'evicted',
    packet: (siege, n) => siege.out(siege.attacker, tcp('S', { sourcePort: 4000, destinationPort: 1 + n })),
  },
  {
    name: 'SYNs from every port to the victim',
    full: 'evicted',
    packet: (siege, n) => siege.out(siege.attacker, tcp('S', nth(n)), siege.addressOf(siege.victim)),
  },
  {
    name: 'datagrams to every port',
    full: 'evicted',
    packet: (siege, n) => siege.out(siege.attacker, udp({ sourcePort: 4000, destinationPort: 1 + n })),
  },
  {
    name: 'echo requests of every id',
    full: 'evicted',
    packet: (siege, n) => siege.out(siege.attacker, echo(siege.family, 'request', n)),
  },
  {
    name: 'first fragments',
    full: 'evicted',
    packet: (siege, n) => siege.out(siege.attacker, firstFragment(n)),
  },
  {
    name: 'ACKs of nothing',
    full: 'mid-flow',
    packet: (siege, n) => siege.out(siege.attacker, tcp('A', nth(n))),
  },
  {
    name: 'connections that are opened and left',
    full: 'conntrack-full',
    packet: (siege, n) => opens(siege, siege.attacker, nth(n)),
  },
  {
    name: 'connections that are opened and reset',
    full: 'evicted',
    packet: (siege, n) => opens(siege, siege.attacker, nth(n)) && siege.out(siege.attacker, tcp('R', nth(n))),
  },
  {
    name: 'datagram streams that go on',
    full: 'evicted',
    packet: (siege, n) => {
      siege.out(siege.attacker, udp(nth(n)));
      if (n === PLACES / 2) siege.datapath.moveClock(3);
      if (n >= PLACES / 2) siege.out(siege.attacker, udp(nth(n % (PLACES / 2))));
    },
  },
  {
    name: 'SYNs of the whole world to the attacker',
    full: 'evicted',
    packet: (siege, n) => siege.in(siege.attacker, tcp('S', nth(n)), address(`198.51.${n >> 8}.${n & 255}`)),
  },
  {
    name: 'datagrams of the whole world to the attacker',
    full: 'evicted',
    packet: (siege, n) => siege.in(siege.attacker, udp(nth(n)), address(`198.51.${n >> 8}.${n & 255}`)),
  },
  {
    name: 'connections from the world to the attacker',
    full: 'conntrack-full',
    packet: (siege, n) => isAsked(siege, siege.attacker, nth(n)),
  },
  {
    name: 'SYNs to the Service',
    full: 'evicted',
    packet: (siege, n) => siege.asks(siege.attacker, tcp('S', nth(n))),
  },
  {
    name: 'datagrams to the Service',
    full: 'evicted',
    packet: (siege, n) => siege.asks(siege.attacker, udp(nth(n))),
  },
  {
    name: 'connections to the Service that are opened and left',
    full: 'conntrack-full',
    packet: (siege, n) => isServed(siege, siege.attacker, nth(n)),
  },
];

const QUEUE_END = '!may_have_more(queue_length(own), queue_length(all) - given, room, GREED)';

/** What the victim would lose by an attack, were there no such rule. */
type Tooth = {
  readonly name: string;
  readonly faults: readonly ProgramFault[];
  readonly attack: string;
  readonly families: readonly Family[];
  readonly lost: readonly string[];
};

const TEETH: readonly Tooth[] = [
  {
    name: 'no pod’s queue had an end',
    faults: [{ file: 'queue.h', from: QUEUE_END, to: '0' }],
    attack: 'datagrams to every port',
    families: [4],
    lost: ['a new question', 'a new connection', 'a new connection to it', 'a new connection to the Service'],
  },
  {
    name: 'no pod had a share of the assured flows',
    faults: [{ file: 'share.h', from: '!may_have_more(own->assured, all->assured, room, greed)', to: '0 * greed' }],
    attack: 'connections that are opened and left',
    families: [4],
    lost: ['a new connection', 'a new connection to it', 'a new connection to the Service'],
  },
  {
    name: 'the flow that was not seen for longest gave way, whosever it is',
    faults: [
      { file: 'maps.h', from: 'MAP(BPF_MAP_TYPE_HASH, ct_map', to: 'MAP(BPF_MAP_TYPE_LRU_HASH, ct_map' },
      { file: 'queue.h', from: 'queue_length(all) >= room', to: 'room < 0' },
      { file: 'queue.h', from: QUEUE_END, to: '0' },
    ],
    attack: 'SYNs to every port of the world',
    families: [4, 6],
    lost: ['an answer to a question', 'an answer to a SYN', 'an echo'],
  },
];

/** Floods, and says what the victim lost. */
function flood(siege: Siege, attack: Attack): readonly string[] {
  const held = holdings(siege);
  for (let n = 0; n < FLOOD; n++) attack.packet(siege, n);
  return [...held].filter(([, stands]) => !stands()).map(([what]) => what);
}

/** Once everything has ended, no flow is left, and nobody's share is taken. */
function assertEmptyInTheEnd(siege: Siege): void {
  siege.datapath.moveClock(3 * 86_400);
  siege.datapath.sweep();
  for (const table of ['ct_map', 'translation_map']) assert.equal(siege.keys(table).length, 0, table);
  for (const share of ['share_map', 'total_map'].flatMap((map) => siege.values(map))) {
    assert.equal(share.readBigInt64LE(SHARE.assured), 0n);
    assert.equal(share.readBigInt64LE(SHARE.head), share.readBigInt64LE(SHARE.tail));
  }
  // Of each queue the part that its end is in.
  assert.ok(siege.keys('queue_map').length <= siege.bed.pods.length);
}

describe('floods (root)', needsRoot, () => {
  let bed: PodBed;

  before(() => {
    mountBpffs();
    bed = new PodBed('flood', 2);
  });

  after(() => bed.destroy());

  function within<T>(family: Family, work: (siege: Siege) => T, object?: string): T {
    const siege = new Siege(bed, family, object);
    try {
      return work(siege);
    } finally {
      siege.close();
    }
  }

  for (const attack of ATTACKS) {
    for (const family of attack.families ?? [4]) {
      it(`nobody but the attacker loses by ${attack.name} (IPv${family})`, () => {
        within(family, (siege) => {
          assert.deepEqual(flood(siege, attack), []);
          const { evicted, drops } = siege.datapath.counters();
          const stopped = attack.full === 'evicted' ? evicted : (drops.get(attack.full) ?? 0n);
          assert.ok(stopped > BigInt(FLOOD / 2), `${stopped} ${attack.full} of ${FLOOD}`);
          assertEmptyInTheEnd(siege);
        });
      });
    }
  }

  for (const { name, faults, attack, families, lost } of TEETH) {
    it(`the victim would lose by ${attack}, if ${name}`, needsSources, () => {
      const chosen = ATTACKS.find((each) => each.name === attack);
      assert.ok(chosen !== undefined);
      withFaultyPrograms(faults, (object) => {
        for (const family of families) {
          const losses: readonly string[] = within(family, (siege) => flood(siege, chosen), object);
          assert.deepEqual(losses, lost, `IPv${family}`);
        }
      });
    });
  }
});

// Services: translated at the client, judged by the backend, answered from the Service.
import assert from 'node:assert/strict';
import type { Backend } from '#compile/plan.ts';
import { SCTP, TCP, UDP } from '#net/protocol.ts';
import { maglevPlaces, sortedBackends } from '#service/maglev.ts';
import { type FragmentPlace, icmpError, ip, type PortSpec, sctp, tcp, udp } from '../packets.ts';
import { back, type Case, type Connection } from './case.ts';
import type { Met } from './harness.ts';
import { address, block, type Names, type PodName, type Rig } from './rig.ts';
import { DEFAULT } from './tables.ts';

export const PORT = 80;
export const LISTENS = 8080;

type Make = (spec: PortSpec & { readonly flags?: string }) => Uint8Array;

/** Says who serves the Service: `address port` of each. */
export function serve(
  rig: Rig,
  at: Names,
  how: {
    readonly by: readonly string[];
    protocol?: number;
    port?: number;
    of?: string;
    affinitySeconds?: number;
    /** Blocks. */
    clients?: readonly string[];
  },
): void {
  const backends = sortedBackends(how.by.map(backendOf));
  const affinity = how.affinitySeconds === undefined ? {} : { affinitySeconds: how.affinitySeconds };
  const where = { address: address(how.of ?? at.service), protocol: how.protocol ?? TCP, port: how.port ?? PORT };
  const clients = how.clients === undefined ? {} : { clients: { blocks: how.clients.map(block), node: true } };
  const value = { ...where, ...affinity, ...clients, backends, places: maglevPlaces(backends) };
  rig.apply([{ kind: 'service', at: where, value }]);
}

function backendOf(text: string): Backend {
  const [host = '', port] = text.split(' ');
  return { address: address(host), port: Number(port) };
}

/** The frame as it goes on, past its receiver's hook. */
export function arrives(rig: Rig, from: PodName, to: PodName, frame: Uint8Array): Uint8Array {
  const met = rig.pass(`from ${from}`, frame);
  return met.entered ? met.frame : rig.pass(`to ${to}`, met.frame).frame;
}

/** The same packet: all but its MACs, and its hop limit, which may have been lowered. Sums are whole. */
export function same(frame: Uint8Array, make: (hopLimit: number) => Uint8Array | undefined): void {
  const hopLimit = frame[frame[12] === 0x86 ? 21 : 22] ?? 0;
  const expected = make(hopLimit);
  assert.ok(expected);
  assert.equal(hexOf(frame), hexOf(expected));
}

function hexOf(frame: Uint8Array): string {
  return Buffer.from(frame.subarray(14)).toString('hex');
}

/** Whose address the packet goes to now. */
export function destinationOf(met: Met, at: Names): string {
  for (const name of ['a', 'b', 'c', 'remote', 'service'] as const) {
    const bytes = at.family === 4 ? met.frame.subarray(30, 34) : met.frame.subarray(38, 54);
    if (hexOfAddress(at[name]) === Buffer.from(bytes).toString('hex')) return name;
  }
  return 'nobody';
}

function hexOfAddress(text: string): string {
  return address(text)
    .words.map((word) => word.toString(16).padStart(8, '0'))
    .join('');
}

export function client(at: Names, sport = 40_000): Connection {
  return { from: at.a, to: at.service, sport, dport: PORT };
}

/** The connection as its backend sees it. */
export function served(at: Names, sport = 40_000): Connection {
  return { from: at.a, to: at.b, sport, dport: LISTENS };
}

/** a opens a connection to the Service, which b serves. */
export function open(rig: Rig, at: Names, sport = 40_000): void {
  arrives(rig, 'a', 'b', tcp(client(at, sport)));
  arrives(rig, 'b', 'a', tcp({ ...back(served(at, sport)), flags: 'SA' }));
  arrives(rig, 'a', 'b', tcp({ ...client(at, sport), flags: 'A' }));
}

function toAndFro(make: Make, protocol: number): Case['run'] {
  return (rig, at) => {
    serve(rig, at, { by: [`${at.b} ${LISTENS}`], protocol });
    for (const flags of ['S', 'A', 'PA']) {
      const there = arrives(rig, 'a', 'b', make({ ...client(at), flags, payload: Buffer.from('there') }));
      same(there, (hopLimit) => make({ ...served(at), flags, payload: Buffer.from('there'), hopLimit }));
      const answer = flags === 'S' ? 'SA' : 'A';
      const reply = arrives(
        rig,
        'b',
        'a',
        make({ ...back(served(at)), flags: answer, payload: Buffer.from('and back') }),
      );
      same(reply, (hopLimit) =>
        make({ ...back(client(at)), flags: answer, payload: Buffer.from('and back'), hopLimit }),
      );
    }
  };
}

export const SERVICE_CASES: readonly Case[] = [
  { name: 'a connection to a Service goes to its backend, and answers are the Service’s', run: toAndFro(tcp, TCP) },
  { name: 'so do datagrams', run: toAndFro(udp, UDP) },
  { name: 'a datagram without a sum stays without', family: 4, run: toAndFro(withoutSum, UDP) },
  {
    name: 'SCTP goes to a backend with the same port, and to no other',
    run: (rig, at) => {
      serve(rig, at, { by: [`${at.b} ${PORT}`], protocol: SCTP });
      same(arrives(rig, 'a', 'b', sctp(client(at))), (hopLimit) => sctp({ ...client(at), to: at.b, hopLimit }));
      serve(rig, at, { by: [`${at.b} ${LISTENS}`], protocol: SCTP });
      rig.drop('from a', sctp(client(at, 40_001)), 'no-backend');
    },
  },
  {
    name: 'a backend on another node gets the packet, and its answers enter as the Service’s',
    run: (rig, at) => {
      serve(rig, at, { by: [`${at.remote} ${LISTENS}`] });
      const far = { ...client(at), to: at.remote, dport: LISTENS };
      for (const [flags, answer] of [
        ['S', 'SA'],
        ['A', 'PA'],
        ['PA', 'A'],
      ] as const) {
        same(rig.pass('from a', tcp({ ...client(at), flags })).frame, (hopLimit) => tcp({ ...far, flags, hopLimit }));
        const reply = rig.pass('to a', tcp({ ...back(far), flags: answer })).frame;
        same(reply, (hopLimit) => tcp({ ...back(client(at)), flags: answer, hopLimit }));
      }
    },
  },
  {
    name: 'policy judges the backend and its port, at both ends',
    run: (rig, at) => {
      serve(rig, at, { by: [`${at.b} ${LISTENS}`] });
      rig.policy('a', 'egress', [`allow b tcp/${PORT}`, DEFAULT]);
      rig.drop('from a', tcp(client(at)), 'policy egress default');
      rig.policy('a', 'egress', [`allow b tcp/${LISTENS}`, DEFAULT]);
      rig.policy('b', 'ingress', [`allow a tcp/${PORT}`, DEFAULT]);
      rig.drop('from a', tcp(client(at)), 'policy ingress default');
      rig.policy('b', 'ingress', [`allow a tcp/${LISTENS}`, DEFAULT]);
      open(rig, at);
    },
  },
  {
    name: 'a connection to a Service is cut where policy no longer lets its backend be reached',
    run: (rig, at) => {
      serve(rig, at, { by: [`${at.b} ${LISTENS}`] });
      open(rig, at);
      rig.policy('a', 'egress', [`deny b tcp/${LISTENS}`]);
      rig.drop('from a', tcp({ ...client(at), flags: 'PA' }), `policy egress deny b tcp/${LISTENS}`);
      rig.drop('from a', tcp({ ...client(at), flags: 'PA' }), 'denied-earlier egress');
      rig.drop('from b', tcp({ ...back(served(at)), flags: 'PA' }), 'denied-earlier egress');
    },
  },
  {
    name: 'another port of a Service, or another protocol, is judged as an address and goes on as it is',
    run: (rig, at) => {
      serve(rig, at, { by: [`${at.b} ${LISTENS}`] });
      for (const frame of [tcp({ ...client(at), dport: 81 }), udp(client(at))]) {
        same(rig.pass('from a', frame).frame, () => frame);
      }
      rig.policy('a', 'egress', ['allow b', DEFAULT]);
      rig.drop('from a', tcp({ ...client(at, 40_001), dport: 81 }), 'peer-unknown egress default');
      rig.drop('from a', udp(client(at, 40_001)), 'peer-unknown egress default');
    },
  },
  {
    name: 'a Service that nobody serves is refused, by pods that may speak to everybody too',
    run: (rig, at) => {
      serve(rig, at, { by: [] });
      rig.drop('from a', tcp(client(at)), 'no-backend');
      serve(rig, at, { by: [], protocol: UDP });
      rig.drop('from a', udp(client(at)), 'no-backend');
      serve(rig, at, { by: [`${at.b} ${LISTENS}`] });
      open(rig, at);
    },
  },
  {
    name: 'what is addressed to a pod here, or to a backend itself, is nobody’s Service',
    run: (rig, at) => {
      serve(rig, at, { by: [`${at.b} ${LISTENS}`] });
      serve(rig, at, { by: [`${at.b} ${LISTENS}`], of: at.c });
      same(arrives(rig, 'a', 'c', tcp({ ...client(at), to: at.c })), (hopLimit) =>
        tcp({ ...client(at), to: at.c, hopLimit }),
      );
      const direct = served(at, 41_000);
      arrives(rig, 'a', 'b', tcp(direct));
      const reply = arrives(rig, 'b', 'a', tcp({ ...back(direct), flags: 'SA' }));
      same(reply, (hopLimit) => tcp({ ...back(direct), flags: 'SA', hopLimit }));
    },
  },
  {
    name: 'nobody but the backend answers for the Service, and to nobody but who asked',
    run: (rig, at) => {
      serve(rig, at, { by: [`${at.b} ${LISTENS}`] });
      arrives(rig, 'a', 'b', tcp(client(at)));
      rig.drop('from c', tcp({ ...back(client(at)), from: at.c, flags: 'SA' }), 'mid-flow');
      rig.drop('from c', tcp({ ...back(client(at)), flags: 'SA' }), 'spoofed-source');
      rig.drop('from b', tcp({ ...back(client(at)), flags: 'SA' }), 'spoofed-source');
      rig.drop('from b', tcp({ ...back(served(at)), to: at.c, flags: 'SA' }), 'mid-flow');
      rig.drop('from b', tcp({ ...back(served(at)), sport: LISTENS + 1, flags: 'SA' }), 'mid-flow');
      rig.drop('to a from afar', tcp({ ...back(client(at)), flags: 'SA' }), 'mid-flow');
    },
  },
  {
    name: 'many connections are spread over the backends, each stays with its own',
    run: (rig, at) => {
      serve(rig, at, { by: [`${at.b} ${LISTENS}`, `${at.c} ${LISTENS}`] });
      const seen = new Map<number, string>();
      for (let sport = 40_000; sport < 40_064; sport++) {
        seen.set(sport, destinationOf(rig.pass('from a', tcp(client(at, sport))), at));
      }
      assert.deepEqual(new Set(seen.values()), new Set(['b', 'c']));
      for (const [sport, before] of seen) {
        assert.equal(destinationOf(rig.pass('from a', tcp(client(at, sport))), at), before);
      }
    },
  },
  {
    name: 'a connection stays with a backend that serves no more; what begins goes to the others',
    run: (rig, at) => {
      serve(rig, at, { by: [`${at.b} ${LISTENS}`] });
      open(rig, at);
      serve(rig, at, { by: [`${at.c} ${LISTENS}`] });
      const there = rig.pass('from a', tcp({ ...client(at), flags: 'PA' }));
      assert.equal(destinationOf(there, at), 'b');
      same(arrives(rig, 'b', 'a', tcp({ ...back(served(at)), flags: 'PA' })), (hopLimit) =>
        tcp({ ...back(client(at)), flags: 'PA', hopLimit }),
      );
      for (let sport = 40_001; sport < 40_010; sport++) {
        assert.equal(destinationOf(rig.pass('from a', tcp(client(at, sport))), at), 'c');
      }
      // Whom nobody has answered yet asks somebody else.
      serve(rig, at, { by: [`${at.b} ${LISTENS}`] });
      assert.equal(destinationOf(rig.pass('from a', tcp(client(at, 40_001))), at), 'b');
    },
  },
  {
    name: 'datagrams leave a backend that serves no more, and stay with one that does',
    run: (rig, at) => {
      serve(rig, at, { by: [`${at.b} ${LISTENS}`], protocol: UDP });
      assert.equal(destinationOf(rig.pass('from a', udp(client(at))), at), 'b');
      serve(rig, at, { by: [`${at.b} ${LISTENS}`, `${at.c} ${LISTENS}`, `${at.remote} ${LISTENS}`], protocol: UDP });
      assert.equal(destinationOf(rig.pass('from a', udp(client(at))), at), 'b');
      serve(rig, at, { by: [`${at.c} ${LISTENS}`], protocol: UDP });
      assert.equal(destinationOf(rig.pass('from a', udp(client(at))), at), 'c');
      const reply = arrives(rig, 'c', 'a', udp({ ...back(served(at)), from: at.c }));
      same(reply, (hopLimit) => udp({ ...back(client(at)), hopLimit }));
      serve(rig, at, { by: [], protocol: UDP });
      rig.drop('from a', udp(client(at)), 'no-backend');
    },
  },
  {
    name: 'a Service that goes leaves connections as they are, and nothing else',
    run: (rig, at) => {
      for (const protocol of [TCP, UDP]) serve(rig, at, { by: [`${at.b} ${LISTENS}`], protocol });
      open(rig, at);
      rig.pass('from a', udp(client(at)));
      for (const protocol of [TCP, UDP]) {
        rig.apply([{ kind: 'service', at: { address: address(at.service), protocol, port: PORT }, value: null }]);
      }
      assert.equal(destinationOf(rig.pass('from a', tcp({ ...client(at), flags: 'PA' })), at), 'b');
      assert.equal(destinationOf(rig.pass('from a', tcp(client(at, 40_001))), at), 'service');
      assert.equal(destinationOf(rig.pass('from a', udp(client(at))), at), 'service');
    },
  },
  {
    name: 'a Service that comes has the datagrams of flows to its address that were there before',
    run: (rig, at) => {
      assert.equal(destinationOf(rig.pass('from a', udp(client(at))), at), 'service');
      rig.pass('from a', tcp(client(at)));
      rig.pass('to a', tcp({ ...back(client(at)), flags: 'SA' }));
      for (const protocol of [TCP, UDP]) serve(rig, at, { by: [`${at.b} ${LISTENS}`], protocol });
      assert.equal(destinationOf(rig.pass('from a', udp(client(at))), at), 'b');
      assert.equal(destinationOf(rig.pass('from a', tcp({ ...client(at), flags: 'A' })), at), 'service');
    },
  },
  {
    name: 'what a pod sends to a Service’s address that is a pod’s of this node from now on goes to that pod',
    run: (rig, at) => {
      for (const protocol of [TCP, UDP]) serve(rig, at, { by: [`${at.b} ${LISTENS}`], protocol });
      open(rig, at);
      for (let turn = 0; turn < 2; turn++) assert.equal(destinationOf(rig.pass('from a', udp(client(at))), at), 'b');
      rig.detach('c');
      rig.attach('c', [at.service]);
      rig.admit('c', 'c', [address(at.c), address(at.service)]);
      assert.equal(destinationOf(rig.pass('from a', udp(client(at))), at), 'service');
      rig.drop('from a', tcp({ ...client(at), flags: 'A' }), 'mid-flow');
    },
  },
  {
    name: 'two flows that would be one to their backend: the second goes to another one, or nowhere',
    run: (rig, at) => {
      serve(rig, at, { by: [`${at.b} ${LISTENS}`] });
      serve(rig, at, { by: [`${at.b} ${LISTENS}`], port: 81 });
      open(rig, at);
      rig.drop('from a', tcp({ ...client(at), dport: 81 }), 'no-backend');
      serve(rig, at, { by: [`${at.b} ${LISTENS}`, `${at.c} ${LISTENS}`], port: 81 });
      assert.equal(destinationOf(rig.pass('from a', tcp({ ...client(at), dport: 81 })), at), 'c');
      arrives(rig, 'a', 'b', tcp(served(at, 41_000)));
      rig.drop('from a', tcp(client(at, 41_000)), 'no-backend');
    },
  },
  {
    name: 'a fragmented datagram goes to one backend, all of it, and so does its answer come back',
    run: (rig, at) => {
      serve(rig, at, { by: [`${at.b} ${LISTENS}`], protocol: UDP });
      for (const [index, make] of fragmentsOf(at, client(at)).entries()) {
        same(arrives(rig, 'a', 'b', make(64)), (hopLimit) => fragmentsOf(at, served(at))[index]?.(hopLimit));
      }
      for (const [index, make] of fragmentsOf(at, back(served(at))).entries()) {
        same(arrives(rig, 'b', 'a', make(64)), (hopLimit) => fragmentsOf(at, back(client(at)))[index]?.(hopLimit));
      }
    },
  },
  {
    name: 'a flow that gave way to others takes its translation along',
    unassuredLimit: 8,
    run: (rig, at) => {
      serve(rig, at, { by: [`${at.b} ${LISTENS}`] });
      arrives(rig, 'a', 'b', tcp(client(at)));
      for (let sport = 40_001; sport < 40_040; sport++) rig.pass('from a', tcp(client(at, sport)));
      rig.drop('from a', tcp({ ...client(at), flags: 'A' }), 'mid-flow');
    },
  },
  {
    name: 'an error about a packet to a backend passes to the client, and one about nothing does not',
    run: (rig, at) => {
      serve(rig, at, { by: [`${at.b} ${LISTENS}`] });
      open(rig, at);
      const inner = tcp({ ...served(at), flags: 'PA' });
      rig.pass('from b', icmpError({ from: at.b, to: at.a, inner }));
      rig.drop('from c', icmpError({ from: at.c, to: at.a, inner }), 'icmp-unrelated');
    },
  },
];

export function withoutSum(spec: PortSpec): Uint8Array {
  const frame = udp(spec);
  frame.set([0, 0], 40);
  return frame;
}

/** The two fragments of a datagram, whose sum is over the whole. */
function fragmentsOf(at: Names, ends: Connection): readonly ((hopLimit: number) => Uint8Array)[] {
  const datagram = udp({ ...ends, payload: Buffer.alloc(24, 'x') }).subarray(at.family === 4 ? 34 : 54);
  const piece = (offset: number): FragmentPlace => ({ id: 99, offset, more: offset === 0 });
  return [
    (hopLimit) => ip({ ...ends, hopLimit, fragment: piece(0) }, UDP, datagram.subarray(0, 16)),
    (hopLimit) => ip({ ...ends, hopLimit, fragment: piece(2) }, UDP, datagram.subarray(16)),
  ];
}

// ICMP errors about flows to Services: each end is told of the packet that it knows, with right sums, and of no other.
import { SCTP, TCP, UDP } from '#net/protocol.ts';
import { concat, icmpError, ip, type PortSpec, sctp, tcp, udp } from '../packets.ts';
import { back, type Case, type Connection } from './case.ts';
import type { Names, Rig } from './rig.ts';
import { arrives, client, LISTENS, same, serve, served, withoutSum } from './service-cases.ts';
import { DEFAULT } from './tables.ts';

type Make = (spec: PortSpec & { readonly flags?: string }) => Uint8Array;

const PAYLOAD = Buffer.from('quoted as far as it goes');
/** How much of the quoted transport comes along: its ports, its sum too, all. */
const LENGTHS = [8, 20, 64];

/** What an error quotes of a packet. */
function quote(frame: Uint8Array, length: number): Uint8Array {
  return frame.subarray(0, 14 + (frame[12] === 0x86 ? 40 : 20) + length);
}

/** Every error type of the family. */
const typesOf = (at: Names): readonly number[] => (at.family === 4 ? [3, 11, 12] : [1, 2, 3, 4]);

/** a asks the Service, which b serves; b answers. */
function ask(rig: Rig, at: Names, make: Make, protocol: number): void {
  const port = protocol === SCTP ? client(at).dport : LISTENS;
  serve(rig, at, { by: [`${at.b} ${port}`], protocol });
  arrives(rig, 'a', 'b', make(client(at)));
}

const asBackend = (at: Names, make: Make): Connection =>
  make === sctp ? { ...served(at), dport: client(at).dport } : served(at);

function toClient(make: Make, protocol: number): Case['run'] {
  return (rig, at) => {
    rig.policy('a', 'ingress', [DEFAULT]);
    ask(rig, at, make, protocol);
    const [seen, sent] = [asBackend(at, make), client(at)];
    for (const length of LENGTHS) {
      for (const type of typesOf(at)) {
        const inner = quote(make({ ...seen, payload: PAYLOAD, hopLimit: 3 }), length);
        const expected = quote(make({ ...sent, payload: PAYLOAD, hopLimit: 3 }), length);
        same(arrives(rig, 'b', 'a', icmpError({ from: at.b, to: at.a, type, inner })), (hopLimit) =>
          icmpError({ from: at.service, to: at.a, type, inner: expected, hopLimit }),
        );
        for (const from of [at.remote, at.outside, at.otherNode]) {
          same(rig.pass('to a', icmpError({ from, to: at.a, type, inner })).frame, (hopLimit) =>
            icmpError({ from, to: at.a, type, inner: expected, hopLimit }),
          );
        }
      }
    }
  };
}

function toBackend(make: Make, protocol: number): Case['run'] {
  return (rig, at) => {
    ask(rig, at, make, protocol);
    const answer = back(asBackend(at, make));
    arrives(rig, 'b', 'a', make({ ...answer, flags: 'SA' }));
    for (const length of LENGTHS) {
      for (const type of typesOf(at)) {
        const told = quote(make({ ...back(client(at)), payload: PAYLOAD }), length);
        const expected = quote(make({ ...answer, payload: PAYLOAD }), length);
        same(
          arrives(rig, 'a', 'b', icmpError({ from: at.a, to: at.service, type, inner: told, hopLimit: 9 })),
          (hopLimit) => icmpError({ from: at.a, to: at.b, type, inner: expected, hopLimit }),
        );
      }
    }
  };
}

/** Each protocol, and datagrams without a sum. */
function each(name: string, run: (make: Make, protocol: number) => Case['run']): readonly Case[] {
  return [
    { name: `${name} (TCP)`, run: run(tcp, TCP) },
    { name: `${name} (UDP)`, run: run(udp, UDP) },
    { name: `${name} (SCTP)`, run: run(sctp, SCTP) },
    { name: `${name} (UDP without a sum)`, family: 4, run: run(withoutSum, UDP) },
  ];
}

export const SERVICE_ERROR_CASES: readonly Case[] = [
  ...each('an ICMP error about what was sent to a Service enters its client with the packet that it sent', toClient),
  ...each('what a client says of a Service’s answer, its backend hears of its own', toBackend),
  {
    name: 'an ICMP error from a backend elsewhere is the Service’s where it enters',
    run: (rig, at) => {
      serve(rig, at, { by: [`${at.remote} ${LISTENS}`], protocol: UDP });
      const seen = { ...served(at), to: at.remote };
      rig.pass('from a', udp(client(at)));
      same(rig.pass('to a', icmpError({ from: at.remote, to: at.a, inner: udp(seen) })).frame, (hopLimit) =>
        icmpError({ from: at.service, to: at.a, inner: udp(client(at)), hopLimit }),
      );
      rig.pass('to a', udp(back(seen)));
      same(
        rig.pass('from a', icmpError({ from: at.a, to: at.service, inner: udp(back(client(at))) })).frame,
        (hopLimit) => icmpError({ from: at.a, to: at.remote, inner: udp(back(seen)), hopLimit }),
      );
    },
  },
  {
    name: 'an ICMP error about a Service’s answer that there never was goes nowhere',
    run: (rig, at) => {
      ask(rig, at, udp, UDP);
      const about = (connection: Connection): Uint8Array =>
        icmpError({ from: connection.to, to: connection.from, inner: udp(connection) });
      rig.drop('from a', about({ ...back(client(at)), dport: 40_001 }), 'icmp-unrelated');
      rig.drop('from a', about({ ...back(client(at)), sport: 81 }), 'icmp-unrelated');
      rig.drop('from c', about({ ...back(client(at)), to: at.c }), 'icmp-unrelated');
      rig.drop(
        'from a',
        icmpError({ from: at.a, to: at.service, inner: udp({ ...back(client(at)), to: at.c }) }),
        'icmp-unrelated',
      );
      rig.drop('from a', icmpError({ from: at.a, to: at.service, inner: tcp(back(client(at))) }), 'icmp-unrelated');
      arrives(rig, 'a', 'b', about(back(client(at))));
    },
  },
  {
    name: 'nobody but the backend speaks to a client as the Service: a pod only of what was sent to it',
    run: (rig, at) => {
      ask(rig, at, udp, UDP);
      rig.drop('from c', icmpError({ from: at.c, to: at.a, inner: udp(served(at)) }), 'icmp-unrelated');
      rig.drop('from c', icmpError({ from: at.c, to: at.a, inner: udp(client(at)) }), 'icmp-unrelated');
      rig.drop('from b', icmpError({ from: at.b, to: at.a, inner: udp(client(at)) }), 'icmp-unrelated');
      rig.drop('to a', icmpError({ from: at.outside, to: at.a, inner: udp(client(at)) }), 'icmp-unrelated');
    },
  },
  {
    name: 'an ICMP error about a connection to a Service is dropped once that is cut, both ways',
    run: (rig, at) => {
      ask(rig, at, tcp, TCP);
      arrives(rig, 'b', 'a', tcp({ ...back(served(at)), flags: 'SA' }));
      rig.policy('b', 'ingress', [DEFAULT]);
      rig.drop('from b', icmpError({ from: at.b, to: at.a, inner: tcp(served(at)) }), 'icmp-unrelated');
      rig.drop('to a', icmpError({ from: at.otherNode, to: at.a, inner: tcp(served(at)) }), 'icmp-unrelated');
      rig.drop('from a', icmpError({ from: at.a, to: at.service, inner: tcp(back(client(at))) }), 'icmp-unrelated');
    },
  },
  {
    name: 'an ICMP error about a flow to a Service that comes in parts is dropped',
    run: (rig, at) => {
      ask(rig, at, udp, UDP);
      const parts = { fragment: { id: 5, offset: 0, more: true } };
      const header = 14 + (at.family === 4 ? 20 : 40);
      const error = icmpError({ from: at.b, to: at.a, inner: udp(served(at)) });
      const told = icmpError({ from: at.a, to: at.service, inner: udp(back(client(at))) });
      const protocol = at.family === 4 ? 1 : 58;
      rig.drop('from b', ip({ from: at.b, to: at.a, ...parts }, protocol, error.subarray(header)), 'icmp-unrelated');
      rig.drop(
        'from a',
        ip({ from: at.a, to: at.service, ...parts }, protocol, told.subarray(header)),
        'icmp-unrelated',
      );
    },
  },
  {
    name: 'what follows an ICMP error about a flow to a Service is padding, and stays as it is',
    run: (rig, at) => {
      ask(rig, at, tcp, TCP);
      const padding = new Uint8Array(16).fill(7);
      const [seen, sent] = [served(at), client(at)].map((each) => quote(tcp(each), 8));
      if (seen === undefined || sent === undefined) return;
      const padded = (from: string, inner: Uint8Array, hopLimit?: number): Uint8Array =>
        concat(icmpError({ from, to: at.a, inner, ...(hopLimit === undefined ? {} : { hopLimit }) }), padding);
      same(arrives(rig, 'b', 'a', padded(at.b, seen)), (hopLimit) => padded(at.service, sent, hopLimit));
    },
  },
  {
    name: 'a flow to a Service’s backend itself is told of as it is',
    run: (rig, at) => {
      ask(rig, at, udp, UDP);
      const direct = served(at, 41_000);
      arrives(rig, 'a', 'b', udp(direct));
      same(arrives(rig, 'b', 'a', icmpError({ from: at.b, to: at.a, inner: udp(direct) })), (hopLimit) =>
        icmpError({ from: at.b, to: at.a, inner: udp(direct), hopLimit }),
      );
    },
  },
  {
    name: 'a flow to a Service that is over says nothing of what comes from its address',
    needs: ['clock'],
    run: (rig, at) => {
      ask(rig, at, udp, UDP);
      rig.harness.moveClock?.(400);
      const fresh = back(client(at));
      rig.pass('to a', udp(fresh));
      same(rig.pass('from a', icmpError({ from: at.a, to: at.service, inner: udp(fresh) })).frame, (hopLimit) =>
        icmpError({ from: at.a, to: at.service, inner: udp(fresh), hopLimit }),
      );
    },
  },
];

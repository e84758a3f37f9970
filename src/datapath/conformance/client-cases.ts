// Services that are for some clients alone: others are refused as if nobody served, and what stands goes on.
import assert from 'node:assert/strict';
import { UDP } from '#net/protocol.ts';
import { tcp, udp } from '../packets.ts';
import { back, type Case } from './case.ts';
import type { Names, Rig } from './rig.ts';
import { arrives, client, destinationOf, LISTENS, serve, served } from './service-cases.ts';

/** Beside a, whose addresses end in 1: blocks with it, and blocks up to its neighbours. */
const WITH: Readonly<Record<4 | 6, readonly string[]>> = {
  4: ['10.1.0.1/32', '10.1.0.0/31', '10.0.0.0/8', '0.0.0.0/0'],
  6: ['fd00:1::1/128', 'fd00:1::/127', 'fd00::/16', '::/0'],
};
const WITHOUT: Readonly<Record<4 | 6, readonly string[]>> = {
  4: ['10.1.0.0/32', '10.1.0.2/31', '9.0.0.0/8', '11.0.0.0/8', '255.255.255.255/32', '0.0.0.0/5'],
  6: ['fd00:1::/128', 'fd00:1::2/127', 'fc00::/16', 'fd01::/16', 'fd00:1:0:1::/64', 'fd00:1:0:0:1::/80'],
};

function by(at: Names): { readonly by: readonly string[] } {
  return { by: [`${at.b} ${LISTENS}`] };
}

/** a opens a connection to the Service, which b serves. */
function open(rig: Rig, at: Names): void {
  arrives(rig, 'a', 'b', tcp(client(at)));
  arrives(rig, 'b', 'a', tcp({ ...back(served(at)), flags: 'SA' }));
  arrives(rig, 'a', 'b', tcp({ ...client(at), flags: 'A' }));
}

export const CLIENT_CASES: readonly Case[] = [
  {
    name: 'a Service for some clients alone is for those in its blocks, and refuses their neighbours',
    run: (rig, at) => {
      let sport = 40_000;
      for (const one of WITH[at.family]) {
        serve(rig, at, { ...by(at), clients: [one] });
        assert.equal(destinationOf(rig.pass('from a', tcp(client(at, ++sport))), at), 'b', one);
        serve(rig, at, { ...by(at), clients: [...WITHOUT[at.family], one] });
        assert.equal(destinationOf(rig.pass('from a', tcp(client(at, ++sport))), at), 'b', `${one} among others`);
      }
      for (const others of [...WITHOUT[at.family].map((one) => [one]), WITHOUT[at.family], []]) {
        serve(rig, at, { ...by(at), clients: others });
        rig.drop('from a', tcp(client(at, ++sport)), 'no-backend');
      }
      serve(rig, at, by(at));
      assert.equal(destinationOf(rig.pass('from a', tcp(client(at, ++sport))), at), 'b', 'for all again');
    },
  },
  {
    name: 'so it is with many blocks, whatever lies between them',
    run: (rig, at) => {
      const hosts = Array.from({ length: 300 }, (_, host) => 2 * host + 1);
      const odd = hosts.map((host) =>
        at.family === 4 ? `10.1.${host >> 8}.${host & 255}/32` : `fd00:1::${host.toString(16)}/128`,
      );
      serve(rig, at, { ...by(at), clients: odd });
      assert.equal(destinationOf(rig.pass('from a', tcp(client(at))), at), 'b');
      assert.equal(destinationOf(rig.pass('from c', tcp({ ...client(at), from: at.c })), at), 'b');
      rig.drop('from b', tcp({ ...client(at), from: at.b }), 'no-backend');
    },
  },
  {
    name: 'a connection of a client that is none any more goes on, and begins no more; datagrams end',
    run: (rig, at) => {
      serve(rig, at, { ...by(at), clients: [...WITH[at.family]] });
      serve(rig, at, { ...by(at), protocol: UDP, clients: [...WITH[at.family]] });
      open(rig, at);
      arrives(rig, 'a', 'b', udp(client(at)));
      serve(rig, at, { ...by(at), clients: [...WITHOUT[at.family]] });
      serve(rig, at, { ...by(at), protocol: UDP, clients: [...WITHOUT[at.family]] });
      arrives(rig, 'a', 'b', tcp({ ...client(at), flags: 'PA' }));
      arrives(rig, 'b', 'a', tcp({ ...back(served(at)), flags: 'A' }));
      rig.drop('from a', udp(client(at)), 'no-backend');
      rig.drop('from a', tcp(client(at)), 'no-backend');
      rig.drop('from a', tcp(client(at, 40_001)), 'no-backend');
    },
  },
];

// A client of a Service that was a pod here and is elsewhere now: nobody answers it in the Service's name.
import { UDP } from '#net/protocol.ts';
import { tcp, udp } from '../packets.ts';
import { back, type Case } from './case.ts';
import type { Names, Rig } from './rig.ts';
import { arrives, client, LISTENS, open, same, serve, served } from './service-cases.ts';
import { DEFAULT } from './tables.ts';

export const LEFT_CASES: readonly Case[] = [
  {
    name: 'what a backend says to who was here, and is elsewhere now, is its own word',
    run: (rig, at) => {
      begin(rig, at);
      speaksToWhoLeft(rig, at);
    },
  },
  {
    name: 'so it is where policy makes no difference between here and there',
    run: (rig, at) => {
      begin(rig, at);
      speaksToWhoLeft(rig, at, null);
    },
  },
  {
    name: 'so it is where audit alone lets the connection through',
    run: (rig, at) => {
      begin(rig, at);
      rig.audit('b', 'own');
      rig.policy('b', 'ingress', [DEFAULT]);
      const answer = arrives(rig, 'b', 'a', tcp({ ...back(served(at)), flags: 'A' }));
      same(answer, (hopLimit) => tcp({ ...back(client(at)), flags: 'A', hopLimit }));
      speaksToWhoLeft(rig, at);
    },
  },
  {
    name: 'who went and is back begins anew, and is answered in the Service’s name',
    run: (rig, at) => {
      serve(rig, at, { by: [`${at.b} ${LISTENS}`], protocol: UDP });
      arrives(rig, 'a', 'b', udp(client(at)));
      rig.detach('a');
      rig.expel('a');
      rig.policy('b', 'ingress', ['allow a']);
      same(rig.pass('from b', udp(back(served(at)))).frame, (hopLimit) => udp({ ...back(served(at)), hopLimit }));
      rig.attach('a');
      rig.admit('a');
      same(arrives(rig, 'a', 'b', udp(client(at))), (hopLimit) => udp({ ...served(at), hopLimit }));
      same(arrives(rig, 'b', 'a', udp(back(served(at)))), (hopLimit) => udp({ ...back(client(at)), hopLimit }));
    },
  },
];

function begin(rig: Rig, at: Names): void {
  serve(rig, at, { by: [`${at.b} ${LISTENS}`] });
  open(rig, at);
}

/** b, which served a; `identity`: whose a has become, null = its own. */
function speaksToWhoLeft(rig: Rig, at: Names, identity: 'remote' | null = 'remote'): void {
  rig.detach('a');
  rig.expel('a');
  if (identity !== null) rig.relabel(at.a, identity);
  const word = { ...back(served(at)), flags: 'A' };
  for (let said = 0; said < 2; said++)
    same(rig.pass('from b', tcp(word)).frame, (hopLimit) => tcp({ ...word, hopLimit }));
}

// TCP under attack: who can't see a connection can neither make, end nor revive it; flags that no stack sends open nothing.
import { tcp } from '../packets.ts';
import { back, type Case, close, establish, establishFromAfar } from './case.ts';
import type { Names, Rig } from './rig.ts';
import { DEFAULT } from './tables.ts';

const ask = (at: Names) => ({ from: at.a, to: at.b, sport: 40000, dport: 80 });
const fromAfar = (at: Names) => ({ ...ask(at), from: at.remote });
const toAfar = (at: Names) => ({ ...ask(at), to: at.remote });

/** Longer than what half-open and closing connections live, and far less than established ones do. */
const MINUTES = 600;

/** The connection is established: it rests for long, and goes on. */
function stands(rig: Rig, at: Names): void {
  rig.harness.advance?.(MINUTES);
  rig.pass('to b', tcp({ ...fromAfar(at), flags: 'A' }));
}

function isGone(rig: Rig, at: Names): void {
  rig.harness.advance?.(MINUTES);
  rig.drop('to b', tcp({ ...fromAfar(at), flags: 'A' }), 'mid-flow');
}

/** A handshake that a local pod begins with somebody elsewhere. */
function establishToAfar(rig: Rig, at: Names): void {
  rig.pass('from a', tcp(toAfar(at)));
  rig.pass('to a', tcp({ ...back(toAfar(at)), flags: 'SA' }));
  rig.pass('from a', tcp({ ...toAfar(at), flags: 'A' }));
}

export const TCP_CASES: readonly Case[] = [
  {
    // RFC 5961 §3.2: a reset counts where its number is exactly the next one.
    name: 'a reset from afar with a guessed number ends nothing',
    needs: ['clock'],
    run: (rig, at) => {
      establishFromAfar(rig, 'b', fromAfar(at));
      for (const sequence of [0, 1, 3, 1000, 0x8000_0002, 0xffff_ffff]) {
        for (const flags of ['R', 'RA']) rig.pass('to b', tcp({ ...fromAfar(at), flags, sequence }));
      }
      stands(rig, at);
    },
  },
  {
    name: 'a reset with the next number ends a connection, whichever end sends it',
    needs: ['clock'],
    run: (rig, at) => {
      for (const flags of ['R', 'RA']) {
        establishFromAfar(rig, 'b', fromAfar(at));
        rig.pass('to b', tcp({ ...fromAfar(at), flags }));
        isGone(rig, at);
        establishFromAfar(rig, 'b', fromAfar(at));
        rig.pass('from b', tcp({ ...back(fromAfar(at)), flags }));
        isGone(rig, at);
      }
    },
  },
  {
    name: 'the next number is what a pod sent, and what it says to have received',
    needs: ['clock'],
    run: (rig, at) => {
      const payload = new Uint8Array(100);
      const request = fromAfar(at);
      establishFromAfar(rig, 'b', request);
      // In order; lost and not seen here, but received; a hole that was filled.
      rig.pass('to b', tcp({ ...request, flags: 'PA', payload }));
      rig.pass('from b', tcp({ ...back(request), flags: 'A', ack: 502, payload }));
      rig.pass('to b', tcp({ ...request, flags: 'R', sequence: 102 }));
      stands(rig, at);
      rig.pass('to b', tcp({ ...request, flags: 'R', sequence: 502 }));
      isGone(rig, at);
      establishFromAfar(rig, 'b', request);
      for (const sequence of [2, 102, 2]) rig.pass('from b', tcp({ ...back(request), flags: 'PA', sequence, payload }));
      for (const sequence of [2, 102]) rig.pass('from b', tcp({ ...back(request), flags: 'R', sequence }));
      stands(rig, at);
      rig.pass('from b', tcp({ ...back(request), flags: 'R', sequence: 202 }));
      isGone(rig, at);
    },
  },
  {
    name: 'a reset right behind the last data ends a connection, though nothing was acknowledged yet',
    needs: ['clock'],
    run: (rig, at) => {
      establishFromAfar(rig, 'b', fromAfar(at));
      rig.pass('to b', tcp({ ...fromAfar(at), flags: 'PA', payload: new Uint8Array(33) }));
      rig.pass('to b', tcp({ ...fromAfar(at), flags: 'R', sequence: 35 }));
      isGone(rig, at);
    },
  },
  {
    name: 'who forges segments from afar does not move the numbers that a reset must hit',
    needs: ['clock'],
    run: (rig, at) => {
      const request = fromAfar(at);
      establishFromAfar(rig, 'b', request);
      const payload = new Uint8Array(10);
      rig.pass('to b', tcp({ ...request, flags: 'PA', sequence: 5000, ack: 7000, payload }));
      rig.pass('to b', tcp({ ...request, flags: 'SA', sequence: 5000, ack: 7000 }));
      rig.pass('to b', tcp({ ...request, flags: 'R', sequence: 5010 }));
      rig.pass('to b', tcp({ ...request, flags: 'R', sequence: 5001 }));
      rig.pass('from b', tcp({ ...back(request), flags: 'R', sequence: 7000 }));
      stands(rig, at);
      rig.pass('from b', tcp({ ...back(request), flags: 'R' }));
      isGone(rig, at);
    },
  },
  {
    name: 'numbers go round',
    needs: ['clock'],
    run: (rig, at) => {
      const request = fromAfar(at);
      const [last, high] = [0xffff_ffff, 0xffff_ff00];
      rig.pass('to b', tcp({ ...request, sequence: last }));
      rig.pass('from b', tcp({ ...back(request), flags: 'SA', sequence: high - 1, ack: 0 }));
      rig.pass('to b', tcp({ ...request, flags: 'A', sequence: 0, ack: high }));
      const payload = new Uint8Array(0x109);
      rig.pass('from b', tcp({ ...back(request), flags: 'PA', sequence: high, ack: 0, payload }));
      stands(rig, at);
      rig.pass('from b', tcp({ ...back(request), flags: 'RA', sequence: 9, ack: 0 }));
      isGone(rig, at);
    },
  },
  {
    name: 'who does not see the answer can’t finish a handshake',
    needs: ['clock'],
    run: (rig, at) => {
      const request = fromAfar(at);
      rig.pass('to b', tcp(request));
      rig.pass('from b', tcp({ ...back(request), flags: 'SA', sequence: 777 }));
      for (const ack of [0, 2, 777, 779, 0x8000_0000]) rig.pass('to b', tcp({ ...request, flags: 'A', ack }));
      isGone(rig, at);
      rig.pass('to b', tcp(request));
      rig.pass('from b', tcp({ ...back(request), flags: 'SA', sequence: 777 }));
      rig.pass('to b', tcp({ ...request, flags: 'A', ack: 778 }));
      stands(rig, at);
    },
  },
  {
    name: 'a forged answer to a pod’s SYN neither makes nor ends its connection',
    needs: ['clock'],
    run: (rig, at) => {
      const request = toAfar(at);
      rig.pass('from a', tcp({ ...request, sequence: 900, payload: new Uint8Array(20) }));
      // RFC 9293 §3.10.7.3: a pod answers a wrong ACK with a reset of that number, and goes on waiting.
      rig.pass('to a', tcp({ ...back(request), flags: 'SA', sequence: 5, ack: 400 }));
      rig.pass('from a', tcp({ ...request, flags: 'R', sequence: 400 }));
      rig.pass('to a', tcp({ ...back(request), flags: 'RA', sequence: 0, ack: 400 }));
      rig.pass('to a', tcp({ ...back(request), flags: 'SA', sequence: 70, ack: 921 }));
      rig.pass('from a', tcp({ ...request, flags: 'A', sequence: 921, ack: 71 }));
      rig.harness.advance?.(MINUTES);
      rig.pass('to a', tcp({ ...back(request), flags: 'A', sequence: 71, ack: 901 }));
      rig.pass('to a', tcp({ ...back(request), flags: 'R', sequence: 71 }));
      rig.harness.advance?.(MINUTES);
      rig.drop('to a', tcp({ ...back(request), flags: 'A', sequence: 71, ack: 901 }), 'mid-flow');
    },
  },
  {
    name: 'a refused connection is over, and its ports may ask the other way',
    run: (rig, at) => {
      rig.policy('a', 'ingress', ['allow b tcp/40000', DEFAULT]);
      rig.pass('from a', tcp(ask(at)));
      rig.pass('from b', tcp({ ...back(ask(at)), flags: 'RA', sequence: 0 }));
      rig.pass('from b', tcp(back(ask(at))));
      rig.pass('from a', tcp({ ...ask(at), flags: 'SA' }));
    },
  },
  {
    name: 'a FIN counts once it is received, so nobody from afar ends the other’s half',
    needs: ['clock'],
    run: (rig, at) => {
      const request = fromAfar(at);
      establishFromAfar(rig, 'b', request);
      rig.pass('from b', tcp({ ...back(request), flags: 'FA' }));
      rig.pass('to b', tcp({ ...request, flags: 'A', ack: 3 }));
      for (const sequence of [1, 3, 100_000]) rig.pass('to b', tcp({ ...request, flags: 'FA', sequence, ack: 3 }));
      rig.pass('to b', tcp({ ...request, flags: 'F', ack: 3 }));
      stands(rig, at);
      rig.pass('to b', tcp({ ...request, flags: 'FA', ack: 3 }));
      stands(rig, at);
      rig.pass('from b', tcp({ ...back(request), flags: 'A', sequence: 3, ack: 3 }));
      isGone(rig, at);
    },
  },
  {
    name: 'a FIN that comes before what it ends counts once all is received',
    needs: ['clock'],
    run: (rig, at) => {
      const request = fromAfar(at);
      const payload = new Uint8Array(50);
      establishFromAfar(rig, 'b', request);
      rig.pass('to b', tcp({ ...request, flags: 'FA', sequence: 52, payload }));
      rig.pass('from b', tcp({ ...back(request), flags: 'A' }));
      rig.pass('to b', tcp({ ...request, flags: 'PA', payload }));
      rig.pass('from b', tcp({ ...back(request), flags: 'FA', ack: 103 }));
      rig.pass('to b', tcp({ ...request, flags: 'A', sequence: 103, ack: 3 }));
      isGone(rig, at);
    },
  },
  {
    name: 'ports may be used again, whether the last connection’s end was seen or not',
    needs: ['clock'],
    run: (rig, at) => {
      establishToAfar(rig, at);
      rig.pass('from a', tcp({ ...toAfar(at), flags: 'FA' }));
      rig.pass('to a', tcp({ ...back(toAfar(at)), flags: 'A', ack: 3 }));
      const again = toAfar(at);
      rig.pass('from a', tcp({ ...again, sequence: 0x9000_0000 }));
      rig.pass('to a', tcp({ ...back(again), flags: 'SA', sequence: 0xa000_0000, ack: 0x9000_0001 }));
      rig.pass('from a', tcp({ ...again, flags: 'A', sequence: 0x9000_0001, ack: 0xa000_0001 }));
      rig.pass('to a', tcp({ ...back(again), flags: 'FA', sequence: 0xa000_0001, ack: 0x9000_0001 }));
      rig.pass('from a', tcp({ ...again, flags: 'A', sequence: 0x9000_0001, ack: 0xa000_0002 }));
      rig.harness.advance?.(MINUTES);
      rig.pass('to a', tcp({ ...back(again), flags: 'A', sequence: 0xa000_0002, ack: 0x9000_0001 }));
      rig.pass('to a', tcp({ ...back(again), flags: 'R', sequence: 0xa000_0002 }));
      rig.harness.advance?.(MINUTES);
      rig.drop('from a', tcp({ ...again, flags: 'A', sequence: 0x9000_0001 }), 'mid-flow');
    },
  },
  {
    name: 'a SYN for a connection that its pod opened later counts, though an earlier one had another number',
    needs: ['clock'],
    run: (rig, at) => {
      const request = fromAfar(at);
      rig.pass('to b', tcp({ ...request, sequence: 100 }));
      rig.pass('to b', tcp({ ...request, sequence: 7_000_000 }));
      rig.pass('from b', tcp({ ...back(request), flags: 'SA', ack: 7_000_001 }));
      rig.pass('to b', tcp({ ...request, flags: 'A', sequence: 7_000_001 }));
      rig.harness.advance?.(MINUTES);
      rig.pass('to b', tcp({ ...request, flags: 'A', sequence: 7_000_001 }));
    },
  },
  {
    // RFC 7413: the answer may acknowledge the SYN's data, or the SYN alone.
    name: 'data in a SYN is acknowledged or not',
    needs: ['clock'],
    run: (rig, at) => {
      const request = fromAfar(at);
      for (const acknowledged of [2, 102]) {
        rig.pass('to b', tcp({ ...request, payload: new Uint8Array(100) }));
        rig.pass('from b', tcp({ ...back(request), flags: 'SA', ack: acknowledged }));
        rig.pass('to b', tcp({ ...request, flags: 'A', sequence: acknowledged }));
        stands(rig, at);
        rig.pass('to b', tcp({ ...request, flags: 'R', sequence: acknowledged }));
        isGone(rig, at);
      }
    },
  },
  {
    // RFC 9293 §3.5: both SYNs cross, each is judged in its own direction.
    name: 'both sides may open at once where both may open',
    needs: ['clock'],
    run: (rig, at) => {
      rig.pass('from a', tcp(ask(at)));
      rig.pass('from b', tcp(back(ask(at))));
      rig.pass('from a', tcp({ ...ask(at), flags: 'SA' }));
      rig.pass('from b', tcp({ ...back(ask(at)), flags: 'SA' }));
      rig.pass('from a', tcp({ ...ask(at), flags: 'A' }));
      rig.pass('from b', tcp({ ...back(ask(at)), flags: 'A' }));
      rig.harness.advance?.(MINUTES);
      rig.pass('from a', tcp({ ...ask(at), flags: 'PA' }));
      rig.policy('b', 'egress', [DEFAULT]);
      const other = { ...ask(at), sport: 40001 };
      rig.pass('from a', tcp(other));
      rig.drop('from b', tcp(back(other)), 'policy egress default');
      establish(rig, ['a', 'b'], other);
    },
  },
  {
    name: 'after the end only the one who may open opens again',
    run: (rig, at) => {
      rig.policy('b', 'egress', [DEFAULT]);
      establish(rig, ['a', 'b'], ask(at));
      close(rig, ['a', 'b'], ask(at));
      for (const flags of ['S', 'SU', 'SP', 'SE', 'SC']) {
        rig.drop('from b', tcp({ ...back(ask(at)), flags }), 'policy egress default');
      }
      establish(rig, ['a', 'b'], ask(at));
    },
  },
];

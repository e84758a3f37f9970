// Services that nobody serves, by real sockets: connect() and send() fail at once, instead of waiting. Needs root.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { mountBpffs } from '#kernel/bpffs.ts';
import * as sockets from '#kernel/sockets.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { TCP, UDP } from '#net/protocol.ts';
import { ATTACH_MODES } from '#test/support/attach-modes.ts';
import { Conversation } from '#test/support/conversation.ts';
import { withFaultyPrograms } from '#test/support/faulty-programs.ts';
import { endpointStep, ground, isolatingSet } from '#test/support/hand-plan.ts';
import { needsRoot, needsSources } from '#test/support/needs.ts';
import { address, PodBed, waitFor } from '#test/support/pod-bed.ts';
import type { AttachMode } from './hooks.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from './open.ts';

const SERVICE = { 4: address('10.96.0.1'), 6: address('fd96::1') };
const PORT = 80;
/** How long whoever is told of nothing is waited for; those who are told are told in less than a millisecond. */
const SILENCE_MS = 300;

/** What a socket of the first pod is told, and when it is told nothing, null. */
function told(bed: PodBed, to: Address, kind: 'stream' | 'datagram'): string | null {
  const fd = bed.socket(bed.pod(0), () => sockets.openSocket(to.family, kind));
  try {
    const connecting = sockets.connectSocket(fd, to, PORT);
    if (kind === 'datagram') sockets.sendSocket(fd, Buffer.from('who is there?'), null);
    let error = connecting.kind === 'failed' ? connecting.code : null;
    waitFor(() => {
      error ??= sockets.socketError(fd);
      return error !== null;
    }, SILENCE_MS);
    return error;
  } finally {
    bed.close(fd);
  }
}

function serveNobody(datapath: EbpfDatapath): void {
  for (const at of [SERVICE[4], SERVICE[6]]) {
    for (const protocol of [TCP, UDP]) {
      const where = { address: at, protocol, port: PORT };
      datapath.apply([{ kind: 'service', at: where, value: { ...where, backends: [], places: [] } }]);
    }
  }
}

function open(bed: PodBed, how: { attach?: AttachMode; object?: string; refusalRate?: bigint }): EbpfDatapath {
  const { refusalRate, ...rest } = how;
  const knobs = refusalRate === undefined ? {} : { knobs: { refusalRate } };
  const datapath = openDatapath({ instance: bed.prefix, node: 'node-a', sizes: { ct_map: 2048 }, ...rest, ...knobs });
  for (const pod of bed.pods) datapath.attach(pod.link);
  datapath.apply([
    ...ground(),
    ...isolatingSet(7, 70),
    ...bed.pods.flatMap((pod, index) =>
      pod.link.addresses.map((own) => endpointStep(own, index === 1 ? { ingress: 7 } : {}, pod.name)),
    ),
  ]);
  serveNobody(datapath);
  datapath.settle();
  return datapath;
}

function close(bed: PodBed, datapath: EbpfDatapath): void {
  datapath.detachAll();
  datapath.close();
  unpinDatapath(bed.prefix, 'node-a');
}

for (const attach of ATTACH_MODES) {
  describe(`Services that nobody serves, hooks by ${attach} (root)`, needsRoot, () => {
    let bed: PodBed;
    let datapath: EbpfDatapath;

    before(() => {
      mountBpffs();
      bed = new PodBed(`refusal-${attach}`, 2);
      datapath = open(bed, { attach });
    });

    after(() => {
      close(bed, datapath);
      bed.destroy();
    });

    for (const family of [4, 6] as const) {
      for (const kind of ['stream', 'datagram'] as const) {
        it(`a ${kind} socket is refused over IPv${family}`, () => {
          const before = datapath.counters().drops.get('no-backend') ?? 0n;
          assert.equal(told(bed, SERVICE[family], kind), 'ECONNREFUSED');
          assert.equal(datapath.counters().drops.get('no-backend'), before + 1n, 'and counted');
        });

        it(`a ${kind} socket that policy denies a pod over IPv${family} is told nothing`, () => {
          const { v4, v6 } = bed.pod(1);
          assert.equal(told(bed, family === 4 ? v4 : v6, kind), null);
        });
      }

      it(`a Service over IPv${family} that somebody serves answers, and refuses once nobody does`, () => {
        const [client, server] = bed.pods.map(({ name }) => `/run/netns/${bed.prefix}-${name}`);
        const at = { address: family === 4 ? bed.pod(0).v4 : bed.pod(0).v6, port: 8080 };
        const to = { address: SERVICE[family], port: PORT };
        const where = { address: SERVICE[family], protocol: TCP, port: PORT };
        const steps = (places: readonly number[]) =>
          [
            { kind: 'service' as const, at: where, value: { ...where, backends: places.map(() => at), places } },
          ] as const;
        datapath.apply(steps([0]));
        // The second pod asks: the first one serves.
        const talk = new Conversation({ protocol: TCP, client: server ?? '', server: client ?? '', to, at });
        assert.ok(talk.exchange(2));
        datapath.apply(steps([]));
        assert.ok(talk.exchange(2), 'what stands goes on');
        talk.close();
        assert.equal(told(bed, SERVICE[family], 'stream'), 'ECONNREFUSED');
      });
    }
  });
}

describe('how often pods are told (root)', needsRoot, () => {
  it('no more often in a second than an interface has tokens for', () => {
    mountBpffs();
    const bed = new PodBed('refusal-rate', 2);
    const datapath = open(bed, { refusalRate: 4n });
    try {
      const began = performance.now();
      const fds = Array.from({ length: 12 }, () => bed.socket(bed.pod(0), () => sockets.openSocket(4, 'stream')));
      for (const fd of fds) sockets.connectSocket(fd, SERVICE[4], PORT);
      waitFor(() => false, 100);
      const refused = fds.filter((fd) => sockets.socketError(fd) !== null).length;
      assert.ok(performance.now() - began < 900, 'all of it within a second');
      assert.equal(refused, 4, formatAddress(SERVICE[4]));
      for (const fd of fds) bed.close(fd);
    } finally {
      close(bed, datapath);
      bed.destroy();
    }
  });

  it('would be told nothing, were refusals not made', needsSources, () => {
    mountBpffs();
    const bed = new PodBed('refusal-off', 2);
    const fault = { file: 'moat.bpf.c', from: 'refuse(skb, c, place != 0)', to: 'TCX_DROP' };
    withFaultyPrograms([fault], (object) => {
      const datapath = open(bed, { object });
      try {
        assert.equal(told(bed, SERVICE[4], 'stream'), null);
      } finally {
        close(bed, datapath);
        bed.destroy();
      }
    });
  });
});

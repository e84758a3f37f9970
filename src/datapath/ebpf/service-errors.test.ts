// ICMP errors about flows to Services, by real sockets and the kernel's own errors: a client learns that a backend's port is
// closed, and how large packets on the way to it may be. Needs root.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import { mountBpffs } from '#kernel/bpffs.ts';
import * as sockets from '#kernel/sockets.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { UDP } from '#net/protocol.ts';
import { ATTACH_MODES } from '#test/support/attach-modes.ts';
import { withFaultyPrograms } from '#test/support/faulty-programs.ts';
import { endpointStep, ground } from '#test/support/hand-plan.ts';
import { needsRoot, needsSources } from '#test/support/needs.ts';
import { address, PodBed, waitFor } from '#test/support/pod-bed.ts';
import type { AttachMode } from './hooks.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from './open.ts';

const SERVICE = { 4: address('10.96.0.1'), 6: address('fd96::1') };
/** Each backend of the bed has a port of the Service. */
const PORTS = { here: 80, elsewhere: 81 } as const;
const CLOSED = 8080;
const MTU = 1300;
/** How long whoever is told of nothing is waited for. */
const SILENCE_MS = 300;

type Where = keyof typeof PORTS;

/** The second pod is this node's; the third is somebody else's, behind a route with a small MTU. */
function open(bed: PodBed, how: { attach?: AttachMode; object?: string }): EbpfDatapath {
  const datapath = openDatapath({ instance: bed.prefix, node: 'node-a', sizes: { ct_map: 2048 }, ...how });
  const own = bed.pods.slice(0, 2);
  for (const pod of own) datapath.attach(pod.link);
  datapath.apply([
    ...ground(),
    ...own.flatMap((pod) => pod.link.addresses.map((each) => endpointStep(each, {}, pod.name))),
    ...(['here', 'elsewhere'] as const).flatMap((where) =>
      ([4, 6] as const).map((family) => {
        const at = { address: SERVICE[family], protocol: UDP, port: PORTS[where] };
        const backends = [{ address: addressOf(bed, where, family), port: CLOSED }];
        return { kind: 'service' as const, at, value: { ...at, backends, places: [0] } };
      }),
    ),
  ]);
  datapath.settle();
  return datapath;
}

function addressOf(bed: PodBed, where: Where, family: 4 | 6): Address {
  const pod = bed.pod(where === 'here' ? 1 : 2);
  return family === 4 ? pod.v4 : pod.v6;
}

function close(bed: PodBed, datapath: EbpfDatapath): void {
  datapath.detachAll();
  datapath.close();
  unpinDatapath(bed.prefix, 'node-a');
}

/** What a socket of the first pod is told of a datagram of this size; null = nothing. */
function told(bed: PodBed, to: Address, port: number, size = 16): string | null {
  const fd = bed.socket(bed.pod(0), () => sockets.openSocket(to.family, 'datagram'));
  try {
    sockets.connectSocket(fd, to, port);
    sockets.sendSocket(fd, Buffer.alloc(size), null);
    let error: string | null = null;
    waitFor(() => {
      error ??= sockets.socketError(fd);
      return error !== null;
    }, SILENCE_MS);
    return error;
  } finally {
    bed.close(fd);
  }
}

/** What the first pod knows of the way to a Service. */
function wayTo(bed: PodBed, to: Address): string {
  return bed.run(bed.pod(0), 'ip', 'route', 'get', formatAddress(to));
}

/** On the router, where this process is. */
function narrow(bed: PodBed): void {
  for (const each of bed.pod(2).link.addresses)
    execFileSync('ip', ['route', 'replace', formatAddress(each), 'dev', 'h3', 'mtu', `${MTU}`]);
}

for (const attach of ATTACH_MODES) {
  describe(`ICMP errors about flows to Services, hooks by ${attach} (root)`, needsRoot, () => {
    let bed: PodBed;
    let datapath: EbpfDatapath;

    before(() => {
      mountBpffs();
      bed = new PodBed(`errors-${attach}`, 3);
      narrow(bed);
      datapath = open(bed, { attach });
    });

    after(() => {
      close(bed, datapath);
      bed.destroy();
    });

    for (const family of [4, 6] as const) {
      for (const where of ['here', 'elsewhere'] as const) {
        it(`a client over IPv${family} is told that the port of a backend ${where} is closed`, () => {
          assert.equal(told(bed, SERVICE[family], PORTS[where]), 'ECONNREFUSED');
        });
      }

      it(`a client over IPv${family} learns how large what it sends to the Service may be`, () => {
        assert.doesNotMatch(wayTo(bed, SERVICE[family]), /mtu/);
        told(bed, SERVICE[family], PORTS.elsewhere, MTU + 20);
        assert.match(wayTo(bed, SERVICE[family]), new RegExp(`mtu ${MTU}`));
        assert.doesNotMatch(wayTo(bed, addressOf(bed, 'elsewhere', family)), /mtu/, 'and knows no backend');
        assert.equal(told(bed, SERVICE[family], PORTS.elsewhere, MTU + 20), 'ECONNREFUSED', 'in parts it arrives');
      });
    }
  });
}

describe('errors that are not translated (root)', needsSources, () => {
  it('tell a client nothing', { skip: needsRoot.skip }, () => {
    mountBpffs();
    const bed = new PodBed('errors-off', 3);
    narrow(bed);
    withFaultyPrograms([{ file: 'related.h', from: 'c->back = is_answer(c, from_initiator);', to: '' }], (object) => {
      const datapath = open(bed, { object });
      try {
        for (const family of [4, 6] as const) {
          assert.equal(told(bed, SERVICE[family], PORTS.here), null);
          assert.equal(told(bed, SERVICE[family], PORTS.elsewhere, MTU + 20), null);
          assert.doesNotMatch(wayTo(bed, SERVICE[family]), /mtu/);
        }
      } finally {
        close(bed, datapath);
        bed.destroy();
      }
    });
  });
});

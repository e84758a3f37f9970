// What outlives the process: enforcement after kill -9, and a new process that takes over without a gap. Needs root.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { mountBpffs } from '#kernel/bpffs.ts';
import * as sockets from '#kernel/sockets.ts';
import { formatAddress } from '#net/address.ts';
import { ATTACH_MODES } from '#test/support/attach-modes.ts';
import { endpointStep, ground, isolatingSet } from '#test/support/hand-plan.ts';
import type { Held } from '#test/support/hold-datapath.ts';
import { needsRoot } from '#test/support/needs.ts';
import { type BedPod, PodBed, udpArrives, waitFor } from '#test/support/pod-bed.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from './open.ts';

for (const attach of ATTACH_MODES) {
  describe(`after kill -9, hooks by ${attach} (root)`, needsRoot, () => {
    let bed: PodBed;
    let holder: ChildProcess;
    let datapath: EbpfDatapath | null = null;
    let open: { readonly client: number; readonly server: number };

    before(async () => {
      mountBpffs();
      bed = new PodBed(`takeover-${attach}`, 3);
      holder = await hold(bed);
      open = connect(bed, bed.pod(0), bed.pod(1), 8080);
    });

    after(() => {
      holder.kill('SIGKILL');
      datapath?.detachAll();
      datapath?.close();
      unpinDatapath(bed.prefix, 'node-a');
      bed.destroy();
    });

    const allowed = (port: number): boolean => udpArrives(bed, bed.pod(0), bed.pod(1), { family: 4, port });
    const denied = (port: number): boolean => !udpArrives(bed, bed.pod(0), bed.pod(2), { family: 4, port });

    it('lets nobody else write the tables while the first process lives', () => {
      assert.throws(() => openDatapath({ instance: bed.prefix, node: 'node-a' }), {
        name: 'BpffsError',
        message: /another process/,
      });
    });

    it('goes on denying and allowing, and keeps open connections', async () => {
      assert.ok(denied(90) && allowed(90) && speaks(open));
      holder.kill('SIGKILL');
      await once(holder, 'exit');
      assert.ok(denied(91) && allowed(91) && speaks(open));
    });

    it('takes over: what stood stands, until each endpoint’s new policy is known', () => {
      datapath = openDatapath({ instance: bed.prefix, node: 'node-a', attach, sizes: { ct_tcp: 1024, ct_lru: 1024 } });
      assert.ok(denied(92) && allowed(92) && speaks(open), 'opened');
      for (const pod of bed.pods) datapath.attach(pod.link);
      assert.ok(denied(93) && allowed(93) && speaks(open), 'attached');
      // The same meaning under other numbers, as a new compiler gives them out.
      datapath.apply([...ground(), ...isolatingSet(3, 30)]);
      assert.ok(denied(94) && allowed(94) && speaks(open), 'tables');
      for (const index of [0, 1, 2]) {
        const sets = index === 2 ? { ingress: 3 } : {};
        datapath.apply(bed.pod(index).link.addresses.map((each) => endpointStep(each, sets, `pod${index}`)));
        assert.ok(denied(95 + index) && allowed(95 + index) && speaks(open), `endpoint ${index}`);
      }
      datapath.settle();
      assert.ok(denied(98) && allowed(98) && speaks(open), 'settled');
    });

    it('names its own rules from then on', () => {
      assert.ok(datapath);
      datapath.poll();
      assert.ok(denied(99));
      const drops = datapath.poll().events.filter((event) => event.kind === 'drop' && event.destinationPort === 99);
      assert.deepEqual(
        drops.map((event) => event.ingressRule),
        [30],
      );
    });

    it('denies at the interface of an endpoint that the next process does not name', () => {
      datapath?.close();
      datapath = openDatapath({ instance: bed.prefix, node: 'node-a', attach, sizes: { ct_tcp: 1024, ct_lru: 1024 } });
      datapath.apply(ground());
      const first = bed.pod(0);
      datapath.attach(first.link);
      datapath.apply(first.link.addresses.map((each) => endpointStep(each, {}, 'pod0')));
      assert.ok(allowed(100) && speaks(open), 'not settled yet');
      datapath.settle();
      assert.ok(!allowed(101) && !speaks(open));
      assert.ok(!udpArrives(bed, bed.pod(1), bed.pod(2), { family: 4, port: 101 }));
    });
  });
}

async function hold(bed: PodBed): Promise<ChildProcess> {
  const held: Held = {
    netns: `/run/netns/${bed.prefix}-router`,
    instance: bed.prefix,
    pods: bed.pods.map((pod) => ({
      interfaceIndex: pod.link.interfaceIndex,
      mac: [...pod.link.mac],
      addresses: pod.link.addresses.map(formatAddress),
    })),
    denyRule: 70,
  };
  const script = join(import.meta.dirname, '../../../test/support/hold-datapath.ts');
  const child = spawn(process.execPath, [script, JSON.stringify(held)], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  return child;
}

function connect(bed: PodBed, from: BedPod, to: BedPod, port: number): { client: number; server: number } {
  const listener = bed.socket(to, () => sockets.openSocket(4, 'stream'));
  sockets.bindSocket(listener, to.v4, port);
  sockets.listenSocket(listener, 1);
  const client = bed.socket(from, () => sockets.openSocket(4, 'stream'));
  sockets.connectSocket(client, to.v4, port);
  let server: number | null = null;
  waitFor(() => {
    server = sockets.acceptSocket(listener);
    return server !== null;
  }, 2000);
  assert.ok(server !== null, 'the connection opens');
  return { client, server };
}

/** True where a byte goes each way. */
function speaks({ client, server }: { client: number; server: number }): boolean {
  const buffer = Buffer.alloc(64);
  const goes = (from: number, to: number): boolean => {
    sockets.sendSocket(from, Buffer.from('x'), null);
    return waitFor(() => sockets.receiveSocket(to, buffer).kind === 'done', 400);
  };
  return goes(client, server) && goes(server, client);
}

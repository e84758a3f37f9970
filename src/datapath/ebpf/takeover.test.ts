// What outlives the process: enforcement after kill -9, and a new process that takes over without a gap. Needs root.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { ENDPOINT_FLAG } from '#datapath/ebpf/encode/abi.gen.ts';
import { mountBpffs, pinPath } from '#kernel/bpffs.ts';
import * as sockets from '#kernel/sockets.ts';
import { ATTACH_MODES } from '#test/support/attach-modes.ts';
import { endpointFlags } from '#test/support/endpoint-flags.ts';
import { endpointStep, ground, isolatingSet } from '#test/support/hand-plan.ts';
import { connect, type Ends, hold, speaks } from '#test/support/holder.ts';
import { needsRoot } from '#test/support/needs.ts';
import { PodBed, udpArrives, waitFor } from '#test/support/pod-bed.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from './open.ts';

for (const attach of ATTACH_MODES) {
  describe(`after kill -9, hooks by ${attach} (root)`, needsRoot, () => {
    let bed: PodBed;
    let holder: ChildProcess;
    let datapath: EbpfDatapath | null = null;
    let open: Ends;

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
      datapath = openDatapath({
        instance: bed.prefix,
        node: 'node-a',
        attach,
        sizes: { ct_map: 2048 },
      });
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

    it('judges a flow again that the old policy let through while the new one was on its way', () => {
      const [a, b] = [bed.pod(0), bed.pod(1)];
      const server = bed.socket(b, () => sockets.openSocket(4, 'datagram'));
      sockets.bindSocket(server, b.v4, 110);
      const client = bed.socket(a, () => sockets.openSocket(4, 'datagram'));
      const arrives = (): boolean => {
        sockets.sendSocket(client, Buffer.from('x'), { address: b.v4, port: 110 });
        return waitFor(() => sockets.receiveSocket(server, Buffer.alloc(64)).kind === 'done');
      };
      datapath?.close();
      datapath = openDatapath({
        instance: bed.prefix,
        node: 'node-a',
        attach,
        sizes: { ct_map: 2048 },
      });
      // Policies come first, as from a cluster; the second pod is closed now.
      datapath.apply([...ground(), ...isolatingSet(3, 30)]);
      for (const [index, pod] of bed.pods.entries()) {
        const sets = index === 0 ? {} : { ingress: 3 };
        datapath.apply(pod.link.addresses.map((each) => endpointStep(each, sets, `pod${index}`)));
      }
      assert.ok(arrives() && arrives(), 'not attached yet: the old policy');
      for (const pod of bed.pods) datapath.attach(pod.link);
      datapath.settle();
      assert.equal(arrives(), false);
      // As it was before.
      datapath.apply(b.link.addresses.map((each) => endpointStep(each, {}, 'pod1')));
      assert.ok(allowed(111));
    });

    /** The next process, which knows the policies before its pods are attached, as from a cluster. */
    const next = (open: readonly number[] = [0, 1, 2]): EbpfDatapath => {
      datapath?.close();
      const sizes = { ct_map: 2048 };
      const opened = openDatapath({ instance: bed.prefix, node: 'node-a', attach, sizes });
      opened.apply([...ground(), ...isolatingSet(3, 30)]);
      for (const index of open) turn(opened, index);
      return opened;
    };
    const turn = (opened: EbpfDatapath, index: number): void => {
      const sets = index === 2 ? { ingress: 3 } : {};
      opened.apply(bed.pod(index).link.addresses.map((each) => endpointStep(each, sets, `pod${index}`)));
    };
    const banks = (): ReadonlySet<number> =>
      new Set(endpointFlags(bed.prefix, 'node-a').map((flags) => flags & ENDPOINT_FLAG.BANK));

    it('turns all pods at once: whoever dies before or after leaves one bank in use', () => {
      datapath = next();
      const before = banks();
      assert.equal(before.size, 1);
      for (const pod of bed.pods) {
        datapath.attach(pod.link);
        assert.deepEqual(banks(), before);
      }
      assert.ok(speaks(open) && denied(112));
      datapath.turn();
      assert.equal(banks().size, 1);
      assert.notDeepEqual(banks(), before);
      assert.ok(speaks(open) && denied(113) && allowed(113));
    });

    for (const turned of [[0], [0, 2], [1]]) {
      it(`keeps connections where a process died that knew of pod ${turned.join(' and ')} alone when it turned`, () => {
        assert.ok(speaks(open));
        datapath = next(turned);
        for (const pod of bed.pods) datapath.attach(pod.link);
        datapath.turn();
        assert.equal(banks().size, 2);
        assert.ok(speaks(open) && denied(114), 'half taken over');
        datapath = next([]);
        // The fewer are closed until their policy comes; what others send to them meanwhile does no harm.
        assert.ok(denied(115));
        speaks(open);
        for (const pod of bed.pods) datapath.attach(pod.link);
        datapath.turn();
        for (const index of [0, 1, 2]) {
          turn(datapath, index);
          speaks(open);
        }
        datapath.settle();
        assert.ok(
          waitFor(() => speaks(open), 5000),
          'the connection is lost',
        );
        assert.ok(denied(116) && allowed(116));
      });
    }

    it('takes away tables that a process died over while it took them away', () => {
      const left = `${pinPath(bed.prefix, 'node-a')}/tables_99_gone`;
      mkdirSync(left);
      datapath = next();
      assert.equal(existsSync(left), false);
      for (const pod of bed.pods) datapath.attach(pod.link);
      datapath.settle();
      assert.ok(speaks(open) && denied(117));
    });

    it('denies at the interface of an endpoint that the next process does not name', () => {
      datapath?.close();
      datapath = openDatapath({
        instance: bed.prefix,
        node: 'node-a',
        attach,
        sizes: { ct_map: 2048 },
      });
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

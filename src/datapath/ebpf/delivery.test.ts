// Where packets may skip the host's side of an interface, who stands on it, and what is reported of a flood. Needs root.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import type { Interval, Step } from '#compile/plan.ts';
import { attachTcx, closeObject, type TcxPlace } from '#kernel/bpf.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import { attachFilter, detachFilter } from '#kernel/tc.ts';
import { ICMPV6, TCP, UDP } from '#net/protocol.ts';
import { ATTACH_MODES } from '#test/support/attach-modes.ts';
import { type FrameFields, frame } from '#test/support/frames.ts';
import { endpointStep, ground, identitySteps, interval, isolatingSet } from '#test/support/hand-plan.ts';
import { needsRoot, needsSources } from '#test/support/needs.ts';
import { address, type BedPod, PodBed, udpArrives } from '#test/support/pod-bed.ts';
import { Witness } from '#test/support/witness.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from './open.ts';
import { type Injected, type Injection, inject } from './test-run.ts';

/** Drops of one tuple in such a time are one event. */
const DROP_WINDOW_MS = 100;
/** Of one pod, reported a second. */
const FLOW_RATE = 20;

for (const attach of ATTACH_MODES) {
  describe(`delivery and reports, hooks by ${attach} (root)`, needsRoot, () => {
    let bed: PodBed;
    let datapath: EbpfDatapath;

    before(() => {
      mountBpffs();
      bed = new PodBed(`deliver-${attach}`, 3);
      datapath = openDatapath({
        instance: bed.prefix,
        node: 'node-a',
        attach,
        sizes: { ct_map: 4352, drop_map: 8192, arena: 4096 },
        knobs: { dropRate: 100n, flowRate: BigInt(FLOW_RATE), dropWindow: BigInt(DROP_WINDOW_MS * 1e6) },
      });
      for (const pod of bed.pods) datapath.attach(pod.link);
      const endpoints = bed.pods.flatMap((pod) => pod.link.addresses.map((each) => endpointStep(each, {}, pod.name)));
      datapath.apply([...ground(), ...endpoints, ...isolatingSet(9, 90)]);
    });

    after(() => {
      datapath.detachAll();
      datapath.close();
      unpinDatapath(bed.prefix, 'node-a');
      bed.destroy();
    });

    function send(ports: { sourcePort: number; destinationPort: number }, to = 1): Injected {
      const [a, b] = [bed.pod(0), bed.pod(to)];
      const bytes = frame({ source: a.v4, destination: b.v4, protocol: UDP, sourceMac: a.link.mac, ...ports });
      return inject(datapath, { frame: bytes, hook: 'from-pod', interfaceIndex: a.link.interfaceIndex });
    }

    it('goes straight to the neighbour, and by the stack where the neighbour’s interface has a queue', () => {
      assert.equal(send({ sourcePort: 1, destinationPort: 1 }).verdict, 'redirect');
      execFileSync('tc', [
        'qdisc',
        'add',
        'dev',
        'h2',
        'root',
        'tbf',
        'rate',
        '1gbit',
        'burst',
        '1mb',
        'latency',
        '1ms',
      ]);
      refreshLater();
      assert.equal(send({ sourcePort: 1, destinationPort: 1 }).verdict, 'pass');
      assert.ok(udpArrives(bed, bed.pod(0), bed.pod(1), { family: 4, port: 700 }), 'judged again at its own hook');
      execFileSync('tc', ['qdisc', 'del', 'dev', 'h2', 'root']);
      refreshLater();
      assert.equal(send({ sourcePort: 1, destinationPort: 1 }).verdict, 'redirect');
    });

    it('routes neighbour discovery, which makes a forgery of it: it is no way round policy', () => {
      const [a, b] = [bed.pod(0), bed.pod(1)];
      datapath.apply([endpointStep(a.v6, { egress: 9 }, a.name), endpointStep(b.v6, { ingress: 9 }, b.name)]);
      const leak = (ttl: number): Uint8Array =>
        frame({
          ...{ source: a.v6, destination: b.v6, protocol: ICMPV6, sourceMac: a.link.mac, ttl },
          // A target, and an option that nobody reads (a nonce, RFC 7527): room for what b must not learn of a.
          icmp: {
            type: 135,
            body: Buffer.concat([new Uint8Array(16), Uint8Array.of(14, 1), Buffer.from('secret')]),
          },
        });
      const sent = inject(datapath, { frame: leak(255), hook: 'from-pod', interfaceIndex: a.link.interfaceIndex });
      assert.equal(sent.verdict, 'pass');
      const met = inject(datapath, { frame: leak(254), hook: 'to-pod', interfaceIndex: b.link.interfaceIndex });
      assert.deepEqual([met.verdict, met.events[0]?.reason], ['drop', 'spoofed-neighbour']);
      datapath.apply([endpointStep(a.v6, {}, a.name), endpointStep(b.v6, {}, b.name)]);
    });

    it('sees a foreign program ahead of its hook, and stops skipping that interface', () => {
      const { interfaceIndex } = bed.pod(1).link;
      assert.equal(refreshLater().get(interfaceIndex), 'first');
      const leave = getAhead(interfaceIndex);
      assert.equal(datapath.health(interfaceIndex), 'behind');
      assert.equal(send({ sourcePort: 2, destinationPort: 1 }).verdict, 'pass');
      leave();
      assert.equal(refreshLater().get(interfaceIndex), 'first');
      assert.equal(send({ sourcePort: 2, destinationPort: 1 }).verdict, 'pass', 'what the stack carries stays there');
      assert.equal(send({ sourcePort: 2, destinationPort: 2 }).verdict, 'redirect');
    });

    /** Puts somebody's program first; returns how to take it away. */
    function getAhead(interfaceIndex: number): () => void {
      const program = datapath.program('from_pod');
      if (attach === 'tcx') {
        const link = attachTcx(program, interfaceIndex, 'egress');
        return () => closeObject(link);
      }
      const key = { priority: 1, handle: 7 };
      attachFilter(interfaceIndex, 'egress', key, program);
      return () => void detachFilter(interfaceIndex, 'egress', key);
    }

    for (const [end, place] of [
      ['sender', 'ingress'],
      ['receiver', 'egress'],
    ] as const) {
      const title = `lets a foreign program behind its hook at the ${end} see all that passes, and nothing that it drops`;
      it(title, needsSources, () => {
        const [a, b] = [bed.pod(0), bed.pod(1)];
        const { interfaceIndex } = (end === 'sender' ? a : b).link;
        const witness = new Witness();
        /** How many of two datagrams arrive, and how many packets the program sees of them. */
        const two = (): readonly [number, number] => {
          const before = witness.seen();
          const ports = [801, 802];
          const arrived = ports.filter((port) => udpArrives(bed, a, b, { family: 4, port }));
          return [arrived.length, witness.seen() - before];
        };
        assert.equal(send({ sourcePort: 6, destinationPort: 1 }).verdict, 'redirect');
        const leave = getBehind(interfaceIndex, place, witness.program);
        assert.equal(refreshLater().get(interfaceIndex), 'first');
        assert.equal(send({ sourcePort: 6, destinationPort: 1 }).verdict, 'pass', 'of an open flow');
        assert.equal(send({ sourcePort: 6, destinationPort: 2 }).verdict, 'pass');
        assert.deepEqual(two(), [2, 2]);
        datapath.apply([endpointStep(b.v4, { ingress: 9 }, b.name)]);
        assert.deepEqual(two(), [0, 0]);
        for (const { link } of [a, b]) datapath.detach(link.interfaceIndex);
        assert.deepEqual(two(), [2, 2], 'without hooks');
        for (const { link } of [a, b]) datapath.attach(link);
        assert.deepEqual(two(), [0, 0]);
        datapath.apply([endpointStep(b.v4, {}, b.name)]);
        assert.deepEqual(two(), [2, 2]);
        leave();
        witness.close();
        assert.equal(refreshLater().get(interfaceIndex), 'first');
        assert.equal(send({ sourcePort: 6, destinationPort: 3 }).verdict, 'redirect', 'it is gone');
      });
    }

    /** Puts somebody's program behind our hook; returns how to take it away. */
    function getBehind(interfaceIndex: number, place: TcxPlace, program: number): () => void {
      if (attach === 'tcx') {
        const link = attachTcx(program, interfaceIndex, place);
        // Ours goes ahead of it.
        assert.deepEqual(
          datapath.repair().map((each) => [each.interfaceIndex, each.found, each.now]),
          [[interfaceIndex, 'behind', 'first']],
        );
        return () => closeObject(link);
      }
      const key = { priority: 50_000, handle: 7 };
      attachFilter(interfaceIndex, place, key, program);
      return () => void detachFilter(interfaceIndex, place, key);
    }

    /** Facts of interfaces are kept for a moment. */
    function refreshLater(): ReturnType<EbpfDatapath['refresh']> {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1100);
      return datapath.refresh();
    }

    it('reports a flood of one tuple as few events, whose counts add up exactly', () => {
      datapath.apply([endpointStep(bed.pod(2).v4, { ingress: 9 }, 'pod3')]);
      datapath.poll();
      const counts: number[] = [];
      const begun = performance.now();
      for (let each = 0; each < 1000; each++) {
        const { before, events } = send({ sourcePort: 3, destinationPort: 3 }, 2);
        // Where it all takes more than a second, a sweep tells of some.
        counts.push(...countsOf({ events: before }), ...countsOf({ events }));
      }
      // What was pending and a new one, at the end of each window; and the first.
      const most = 1 + (2 * (performance.now() - begun)) / DROP_WINDOW_MS;
      assert.ok(counts.length <= most && most < 500, `${counts.length} events, ${most} at most`);
      datapath.moveClock(1);
      datapath.sweep();
      counts.push(...countsOf(datapath.poll()));
      assert.equal(
        counts.reduce((sum, count) => sum + count, 0),
        1000,
      );
    });

    it('counts exactly what a flood of many tuples sheds', () => {
      datapath.apply([endpointStep(bed.pod(2).v4, { ingress: 9 }, 'pod3')]);
      datapath.moveClock(10);
      datapath.poll();
      const before = datapath.counters();
      let reported = 0;
      for (let each = 0; each < 3000; each++) {
        reported += countsOf(send({ sourcePort: 10_000 + each, destinationPort: 4 }, 2)).reduce(
          (sum, count) => sum + count,
          0,
        );
      }
      const { lost, drops } = datapath.counters();
      // An emulator takes some seconds, and each has its tokens.
      assert.ok(reported < 2500, `${reported} reported`);
      assert.equal(BigInt(reported) + lost - before.lost, 3000n);
      assert.equal((drops.get('policy') ?? 0n) - (before.drops.get('policy') ?? 0n), 3000n);
    });

    it('does not let one pod’s connections hide another’s drops', () => {
      datapath.moveClock(10);
      datapath.poll();
      const before = datapath.counters().lost;
      const [a, c] = [bed.pod(0), bed.pod(2)];
      const begun = performance.now();
      const opened = Array.from({ length: 300 }, (_, each) => send({ sourcePort: 20_000 + each, destinationPort: 5 }));
      const told = opened.flatMap(({ events }) => events).filter(({ kind }) => kind === 'new').length;
      const most = 1 + FLOW_RATE * (1 + (performance.now() - begun) / 1000);
      assert.ok(told <= most && most < 300, `${told} events, ${most} at most`);
      assert.equal(datapath.counters().lost - before, BigInt(300 - told));
      const stranger = { source: address('192.0.2.99'), destination: a.v4, protocol: UDP, sourceMac: c.link.mac };
      const at = { hook: 'from-pod', interfaceIndex: c.link.interfaceIndex } as const;
      const { events } = inject(datapath, { frame: frame(stranger), ...at });
      assert.deepEqual(
        events.map(({ reason }) => reason),
        ['spoofed-source'],
      );
    });

    function countsOf(result: Pick<Injected, 'events'>): readonly number[] {
      return result.events
        .filter((event) => event.kind === 'drop' && event.reason === 'policy')
        .map((event) => event.count);
    }

    it('denies by a port table that has no room in the kernel, and by nothing else', () => {
      const [a, b] = [bed.pod(0), bed.pod(1)];
      // A second with tokens for events.
      datapath.moveClock(10);
      const ports = Array.from({ length: 4096 }, (_, port) => interval(2 * port, 2 * port, 'allow', 1));
      const five = (table: readonly Interval[]): Step[] => isolatingSet(5, 50, new Map([[6, table]]));
      const all = [interval(0, 0xff_ffff, 'allow', 1)];
      datapath.apply([...identitySteps(6, [a.v4]), ...five(ports), endpointStep(b.v4, { ingress: 5 }, b.name)]);
      const [drop] = send({ sourcePort: 9, destinationPort: 2 }).events;
      assert.deepEqual([drop?.reason, drop?.leg, datapath.lacks.length], ['table-error', 'ingress', 1]);
      assert.notEqual(inject(datapath, toWorld(a)).verdict, 'drop', 'the node is not closed');
      datapath.apply(five(all));
      assert.deepEqual([send({ sourcePort: 10, destinationPort: 2 }).verdict, datapath.lacks.length], ['redirect', 0]);
      datapath.apply([endpointStep(b.v4, {}, b.name)]);
    });

    function toWorld(pod: BedPod): Injection {
      const ports = { sourcePort: 11, destinationPort: 2 };
      const destination = address('198.51.100.1');
      const bytes = frame({ source: pod.v4, destination, protocol: UDP, sourceMac: pod.link.mac, ...ports });
      return { frame: bytes, hook: 'from-pod', interfaceIndex: pod.link.interfaceIndex };
    }

    it('adopts a connection older than its hooks where it is told to, for a time', () => {
      const [a, b] = [bed.pod(0), bed.pod(1)];
      // Each carries 8 bytes; `ack` is 2 or 10, where the other side has said its first.
      const say = (from: BedPod, to: BedPod, fields: Partial<FrameFields>): Injected => {
        const ends = { source: from.v4, destination: to.v4, protocol: TCP, sourceMac: from.link.mac, flags: 'A' };
        const bytes = frame({ ...ends, ...fields });
        return inject(datapath, { frame: bytes, hook: 'from-pod', interfaceIndex: from.link.interfaceIndex });
      };
      const middle = (sourcePort: number, ack = 2): Injected => say(a, b, { sourcePort, destinationPort: 80, ack });
      const answer = (port: number): Injected => say(b, a, { sourcePort: 80, destinationPort: port, ack: 10 });
      assert.equal(middle(5).verdict, 'drop');
      for (const pod of [a, b]) datapath.attach(pod.link, 60_000);
      datapath.moveClock(-11);
      assert.equal(middle(5).verdict, 'pass', 'by the stack: nobody knows whether it is translated there');
      assert.equal(answer(5).verdict, 'pass');
      assert.equal(middle(5, 10).verdict, 'pass');
      assert.equal(middle(7).verdict, 'pass');
      datapath.moveClock(600);
      assert.equal(middle(7).verdict, 'drop', 'nobody answered: it was no connection');
      assert.equal(middle(6).verdict, 'drop');
      assert.equal(middle(5).verdict, 'pass', 'what was adopted goes on');
    });

    it('closes one interface alone where its hooks can’t be put on, and misses one that is gone', () => {
      const name = `gone${process.pid}`;
      execFileSync('ip', ['link', 'add', name, 'type', 'veth', 'peer', 'name', `${name}p`]);
      const index = Number(
        JSON.parse(execFileSync('ip', ['-j', 'link', 'show', name], { encoding: 'utf8' }))[0].ifindex,
      );
      const link = { interfaceIndex: index, mac: Uint8Array.of(2, 0, 0, 0, 0, 7), addresses: [bed.pod(2).v4] };
      datapath.attach({ ...link, addresses: [] });
      execFileSync('ip', ['link', 'del', name]);
      assert.equal(refreshLater().get(index), 'absent');
      datapath.detach(index);
      assert.throws(() => datapath.attach(link), { name: 'InterfaceError' });
      assert.equal(send({ sourcePort: 9, destinationPort: 9 }).verdict, 'redirect', 'the others go on');
    });
  });
}

// Services by real sockets over real veths: to a pod of this node, past the stack and by it, and to one elsewhere. Needs root.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import { TAGGED } from '#datapath/ebpf/encode/abi.gen.ts';
import { addressBytes } from '#datapath/ebpf/encode/bytes.ts';
import { tcp } from '#datapath/packets.ts';
import { allKeys, deleteElement, lookupElement, type MapHandle, testRun, updateBatch } from '#kernel/bpf.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import * as sockets from '#kernel/sockets.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { TCP, UDP } from '#net/protocol.ts';
import { maglevPlaces, sortedBackends } from '#service/maglev.ts';
import { ATTACH_MODES } from '#test/support/attach-modes.ts';
import { Conversation, MOMENT_MS, type Talk, talks } from '#test/support/conversation.ts';
import { endpointStep, ground, identitySteps, interval, isolatingSet } from '#test/support/hand-plan.ts';
import { connect, speaks } from '#test/support/holder.ts';
import { needsRoot } from '#test/support/needs.ts';
import { withPinnedMap } from '#test/support/pinned-map.ts';
import { address, type BedPod, PodBed, waitFor } from '#test/support/pod-bed.ts';
import { Wire } from '#test/support/wire.ts';
import { tablesPath } from './generations.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from './open.ts';

const SERVICE = { 4: address('10.96.0.1'), 6: address('fd96::1') };
const PEERS = 5;
const ALLOWED = 10;
/** A quarter of a megabyte: packets that are cut up only behind the hooks. */
const BULK = 1 << 18;
/** More flows than a pod has places for. */
const FLOOD = 8000;

for (const attach of ATTACH_MODES) {
  describe(`Services over real veths, hooks by ${attach} (root)`, needsRoot, () => {
    let bed: PodBed;
    let datapath: EbpfDatapath;
    let port = 20_000;

    /** The third pod speaks to the Services' backends alone; the fourth is somebody else's: a pod elsewhere. */
    before(() => {
      mountBpffs();
      bed = new PodBed(`service-${attach}`, 4);
      datapath = openDatapath({ instance: bed.prefix, node: 'node-a', attach, sizes: { ct_map: 4352, arena: 4096 } });
      const own = bed.pods.slice(0, 3);
      for (const pod of own) datapath.attach(pod.link);
      const backends = interval((TCP << 16) | 21_000, (UDP << 16) | 29_999, 'allow', ALLOWED);
      datapath.apply([
        ...ground(),
        ...identitySteps(PEERS, [bed.pod(1).v4, bed.pod(1).v6]),
        ...isolatingSet(9, 90, new Map([[PEERS, [backends]]])),
        ...own.flatMap((pod, index) =>
          pod.link.addresses.map((each) => endpointStep(each, index === 2 ? { egress: 9 } : {}, pod.name)),
        ),
      ]);
      datapath.settle();
    });

    after(() => {
      datapath.detachAll();
      datapath.close();
      unpinDatapath(bed.prefix, 'node-a');
      bed.destroy();
    });

    const ownOf = (pod: BedPod, family: 4 | 6): Address => (family === 4 ? pod.v4 : pod.v6);
    const netnsOf = (pod: BedPod): string => `/run/netns/${bed.prefix}-${pod.name}`;

    /** Who serves port 80 of the Service from now on. */
    function serve(
      family: 4 | 6,
      protocol: number,
      by: readonly { readonly address: Address; readonly port: number }[],
    ): void {
      const backends = sortedBackends(by);
      const at = { address: SERVICE[family], protocol, port: 80 };
      datapath.apply([{ kind: 'service', at, value: { ...at, backends, places: maglevPlaces(backends) } }]);
    }

    /** A conversation of a pod with the Service, which another pod alone serves, at a port that it never had. */
    function talkTo(
      server: BedPod,
      how: { family: 4 | 6; protocol: Talk['protocol']; client?: BedPod; port?: number },
    ): Talk {
      const { family, protocol, client = bed.pod(0) } = how;
      const at = { address: ownOf(server, family), port: how.port ?? ++port };
      serve(family, protocol, [at]);
      const ends = { client: netnsOf(client), server: netnsOf(server) };
      return { protocol, ...ends, to: { address: SERVICE[family], port: 80 }, at };
    }

    for (const family of [4, 6] as const) {
      for (const [name, protocol] of [
        ['TCP', TCP],
        ['UDP', UDP],
      ] as const) {
        const how = { family, protocol };

        it(`${name} over IPv${family} to a pod of this node goes past the stack both ways`, () => {
          const before = datapath.counters().redirected;
          assert.ok(talks(talkTo(bed.pod(1), how)));
          assert.ok(datapath.counters().redirected >= before + 10n);
        });

        it(`${name} over IPv${family} to a pod of this node, by the stack`, () => {
          queued(['h1', 'h2'], () => {
            const before = datapath.counters().redirected;
            assert.ok(talks(talkTo(bed.pod(1), how)));
            assert.equal(datapath.counters().redirected, before);
          });
        });

        it(`${name} over IPv${family} to a pod elsewhere`, () => {
          assert.ok(talks(talkTo(bed.pod(3), how)));
        });

        it(`${name} over IPv${family} has the sums of what it became, or what devices make them of`, () => {
          const wire = new Wire(bed.pod(3).netns, 'eth0');
          try {
            const talk = talkTo(bed.pod(3), how);
            assert.ok(talks(talk));
            const ports = Buffer.from([talk.at.port >> 8, talk.at.port & 255]);
            const seen = wire.received().filter((frame) => ports.equals(frame.subarray(...destinationPort(frame))));
            assert.ok(seen.length >= 5);
            for (const frame of seen) assert.ok(isSumRight(frame), Buffer.from(frame).toString('hex'));
          } finally {
            wire.close();
          }
        });

        it(`${name} over IPv${family}: policy judges the backend and its port`, () => {
          const client = bed.pod(2);
          assert.ok(talks(talkTo(bed.pod(1), { ...how, client, port: 21_000 + ++port - 20_000 })));
          assert.equal(talks(talkTo(bed.pod(3), { ...how, client })), false);
        });

        it(`${name} over IPv${family} is not answered where no pod serves, or there is no Service`, () => {
          const talk = talkTo(bed.pod(1), how);
          serve(family, protocol, []);
          assert.equal(talks(talk), false);
          const at = { address: SERVICE[family], protocol, port: 80 };
          datapath.apply([{ kind: 'service', at, value: null }]);
          assert.equal(talks(talk), false);
        });
      }

      it(`an open connection over IPv${family} outlives its Service, and a connected UDP socket finds the next backend`, () => {
        const stream = new Conversation(talkTo(bed.pod(1), { family, protocol: TCP }));
        assert.ok(stream.exchange(2));
        datapath.apply([{ kind: 'service', at: { address: SERVICE[family], protocol: TCP, port: 80 }, value: null }]);
        assert.ok(stream.exchange(2));
        stream.close();
        const talk = talkTo(bed.pod(1), { family, protocol: UDP });
        const datagrams = new Conversation(talk);
        assert.ok(datagrams.exchange(2));
        serve(family, UDP, [{ address: ownOf(bed.pod(3), family), port: talk.at.port }]);
        assert.equal(datagrams.exchange(1, MOMENT_MS), false, 'the old backend hears nothing more');
        datagrams.close();
      });

      it(`large packets over IPv${family} arrive whole, past the stack, by it, and elsewhere`, () => {
        const ways = [
          () => bulk(talkTo(bed.pod(1), { family, protocol: TCP })),
          () => queued(['h1', 'h2'], () => bulk(talkTo(bed.pod(1), { family, protocol: TCP }))),
          () => bulk(talkTo(bed.pod(3), { family, protocol: TCP })),
        ];
        for (const way of ways) assert.ok(way());
      });
    }

    it('no translation outlives its flow, however many give way, with nobody to sweep', () => {
      const family = 4;
      serve(family, TCP, [{ address: bed.pod(1).v4, port: 80 }]);
      const program = datapath.program('from_pod');
      const { interfaceIndex, mac } = bed.pod(0).link;
      const ends = { from: bed.pod(0).v4, to: SERVICE[family], dport: 80, sourceMac: mac };
      for (let sport = 1024; sport < 1024 + FLOOD; sport++) {
        const frame = tcp({ ...ends, sport });
        testRun(program, { frame, interfaceIndex, ingressIndex: interfaceIndex, mark: 0, gsoSize: 0 });
      }
      const [flows, translations] = [elements('ct_map'), elements('translation_map')];
      assert.ok(flows > FLOOD / 10 && flows < FLOOD / 2, `${flows} flows`);
      assert.ok(translations <= flows, `${translations} translations of ${flows} flows`);
      datapath.sweep();
      assert.ok(elements('translation_map') > flows / 2, 'those of flows that stand are left');
    });

    it('a connection outlives a moment in which its client’s address leads to no record, and policy comes', () => {
      const at = { address: bed.pod(1).v4, port: ++port };
      serve(4, TCP, [at]);
      const own = bed.pod(0).v4;
      const ends = connect(bed, bed.pod(0), bed.pod(1), { port, asked: { address: SERVICE[4], port: 80 } });
      assert.ok(speaks(ends));
      // As a start of an agent has it, between taking a bank's addresses away and giving them other records.
      withMap('endpoint_map', (map) => {
        const word = Buffer.alloc(TAGGED.size);
        const key = addressBytes(own);
        assert.ok(lookupElement(map, key, word));
        deleteElement(map, key);
        datapath.apply([{ kind: 'epoch', sets: [], peers: [own] }]);
        sockets.sendSocket(ends.server, Buffer.from('meanwhile'), null);
        waitFor(() => false, MOMENT_MS);
        updateBatch(map, key, word, 1);
      });
      const heard = Buffer.alloc(64);
      assert.ok(waitFor(() => sockets.receiveSocket(ends.client, heard).kind === 'done', 3000));
      assert.ok(speaks(ends));
    });

    function elements(map: string): number {
      return withMap(map, (handle) => allKeys(handle).length);
    }

    function withMap<T>(map: string, work: (map: MapHandle) => T): T {
      return withPinnedMap(tablesPath(bed.prefix, 'node-a'), map, work);
    }

    /** Runs `work` while these interfaces have a queue, which nothing may skip. */
    function queued<T>(interfaces: readonly string[], work: () => T): T {
      const queue = ['root', 'tbf', 'rate', '1gbit', 'burst', '1mb', 'latency', '50ms'];
      for (const each of interfaces) execFileSync('tc', ['qdisc', 'add', 'dev', each, ...queue]);
      refreshLater();
      try {
        return work();
      } finally {
        for (const each of interfaces) execFileSync('tc', ['qdisc', 'del', 'dev', each, 'root']);
        refreshLater();
      }
    }

    /** The datapath looks at interfaces no more often than every half second. */
    function refreshLater(): void {
      waitFor(() => false, 550);
      datapath.refresh();
    }

    /** Whether a large message arrives through the Service as it was sent. */
    function bulk({ client, server, to, at }: Talk): boolean {
      const inside = <T>(path: string, work: () => T): T => {
        const netns = sockets.openNetns(path);
        try {
          return sockets.inNetns(netns, work);
        } finally {
          sockets.closeSocket(netns);
        }
      };
      const open = (path: string): number => inside(path, () => sockets.openSocket(to.address.family, 'stream'));
      const fds = [open(server), open(client)] as const;
      const [listener, sender] = fds;
      let accepted: number | null = null;
      try {
        sockets.bindSocket(listener, at.address, at.port);
        sockets.listenSocket(listener, 1);
        sockets.connectSocket(sender, to.address, to.port);
        const accepts = (): boolean => {
          accepted = sockets.acceptSocket(listener);
          return accepted !== null;
        };
        waitFor(accepts, 2000);
        assert.ok(accepted !== null, `${formatAddress(to.address)} is not answered`);
        return carries(sender, accepted);
      } finally {
        for (const fd of accepted === null ? fds : [...fds, accepted]) sockets.closeSocket(fd);
      }
    }

    function carries(from: number, to: number): boolean {
      const message = Buffer.from(Uint8Array.from({ length: BULK }, (_, index) => (index * 7) ^ (index >> 8)));
      const arrived: Buffer[] = [];
      let [sent, received] = [0, 0];
      waitFor(() => {
        const more = sent < BULK ? sockets.sendSocket(from, message.subarray(sent), null) : null;
        if (more?.kind === 'done') sent += more.bytes;
        const buffer = Buffer.alloc(BULK);
        const got = sockets.receiveSocket(to, buffer);
        if (got.kind !== 'done') return false;
        arrived.push(buffer.subarray(0, got.bytes));
        received += got.bytes;
        return received === BULK;
      }, 4000);
      return Buffer.concat(arrived).equals(message);
    }
  });
}

function destinationPort(frame: Uint8Array): [number, number] {
  const at = (frame[12] === 0x86 ? 54 : 34) + 2;
  return [at, at + 2];
}

/** Of an unfragmented TCP or UDP frame: the sum is that of all, or that of the pseudo-header, for a device to go on from. */
function isSumRight(frame: Uint8Array): boolean {
  const isV6 = frame[12] === 0x86;
  const [addresses, transport] = isV6 ? [frame.subarray(22, 54), 54] : [frame.subarray(26, 34), 34];
  const protocol = frame[isV6 ? 20 : 23] ?? 0;
  const length = isV6 ? word(frame, 18) : word(frame, 16) - 20;
  const segment = frame.slice(transport, transport + length);
  const at = protocol === TCP ? 16 : 6;
  const stated = word(segment, at);
  segment.set([0, 0], at);
  const pseudo = folded(addresses) + length + protocol;
  const whole = ~fold(pseudo + folded(segment)) & 0xffff;
  return stated === fold(pseudo) || stated === whole || (protocol === UDP && whole === 0 && stated === 0xffff);
}

function folded(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += word(bytes, at);
  return fold(sum);
}

function fold(sum: number): number {
  const once = (sum & 0xffff) + Math.floor(sum / 65_536);
  return (once & 0xffff) + (once >>> 16);
}

function word(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
}

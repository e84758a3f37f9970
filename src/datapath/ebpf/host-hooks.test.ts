// The node's own clients reach Services by real sockets: in the node's namespace, and in no other one. Needs root.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readdirSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { after, before, describe, it } from 'node:test';
import type { Step } from '#compile/plan.ts';
import { STATE } from '#datapath/ebpf/encode/abi.gen.ts';
import { serviceKeyBytes, taggedBytes } from '#datapath/ebpf/encode/bytes.ts';
import { serviceTag } from '#datapath/ebpf/encode/tag.ts';
import {
  closeObject,
  detachLink,
  getPinned,
  handleOf,
  linkTarget,
  lookupElement,
  type MapHandle,
  updateBatch,
} from '#kernel/bpf.ts';
import { mountBpffs, pinPath } from '#kernel/bpffs.ts';
import { cgroupRoot } from '#kernel/cgroup.ts';
import * as sockets from '#kernel/sockets.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { TCP, UDP } from '#net/protocol.ts';
import { maglevPlaces, sortedBackends } from '#service/maglev.ts';
import { Conversation, type Talk, talks } from '#test/support/conversation.ts';
import { endpointStep, ground, isolatingSet } from '#test/support/hand-plan.ts';
import { needsRoot } from '#test/support/needs.ts';
import { address, type BedPod, PodBed, waitFor } from '#test/support/pod-bed.ts';
import { tablesPath } from './generations.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from './open.ts';

const SERVICE = { 4: address('10.96.0.1'), 6: address('fd96::1') };
const OTHER = { 4: address('10.96.0.2'), 6: address('fd96::2') };
const SIZES = { ct_map: 2048 };
const PROTOCOLS = [
  ['TCP', TCP],
  ['UDP', UDP],
] as const;

type Backends = readonly sockets.Peer[];

describe('clients on the node itself (root)', needsRoot, () => {
  let bed: PodBed;
  let datapath: EbpfDatapath;
  let port = 20_000;

  const open = (hostClients = true): EbpfDatapath =>
    openDatapath({ instance: bed.prefix, node: 'node-a', sizes: SIZES, hostClients });

  /** The third pod lets nobody in; the fourth is somebody else's, without hooks. */
  function settle(steps: readonly Step[] = []): void {
    const own = bed.pods.slice(0, 3);
    for (const pod of own) datapath.attach(pod.link);
    datapath.apply([
      ...ground(),
      ...isolatingSet(9, 90),
      ...own.flatMap((pod, index) =>
        pod.link.addresses.map((each) => endpointStep(each, index === 2 ? { ingress: 9 } : {}, pod.name)),
      ),
      ...steps,
    ]);
    datapath.settle();
  }

  before(() => {
    mountBpffs();
    bed = new PodBed('host', 4);
    datapath = open();
    settle();
    assert.deepEqual(datapath.complaints, []);
  });

  after(() => {
    datapath.close();
    unpinDatapath(bed.prefix, 'node-a');
    bed.destroy();
  });

  const ownOf = (pod: BedPod, family: 4 | 6): Address => (family === 4 ? pod.v4 : pod.v6);
  const netnsOf = (name: string): string => `/run/netns/${bed.prefix}-${name}`;
  const serving = (at: Address, protocol: number, by: Backends, affinitySeconds = 0): Step => {
    const backends = sortedBackends(by);
    const key = { address: at, protocol, port: 80 };
    return {
      kind: 'service',
      at: key,
      value: { ...key, backends, places: maglevPlaces(backends), ...(affinitySeconds > 0 ? { affinitySeconds } : {}) },
    };
  };

  /** A conversation of the node with the Service, which a pod alone serves, at a port that it never had. */
  function talkTo(server: BedPod, family: 4 | 6, protocol: Talk['protocol'], client = 'router'): Talk {
    const at = { address: ownOf(server, family), port: ++port };
    datapath.apply([serving(SERVICE[family], protocol, [at])]);
    const ends = { client: netnsOf(client), server: netnsOf(server.name) };
    return { protocol, ...ends, to: { address: SERVICE[family], port: 80 }, at };
  }

  /** A socket of the node's own, until the work with it is done. */
  function withSocket<T>(family: 4 | 6, kind: 'stream' | 'datagram', work: (fd: number) => T): T {
    const fd = sockets.openSocket(family, kind);
    try {
      return work(fd);
    } finally {
      sockets.closeSocket(fd);
    }
  }

  /** Answers each datagram once with its own port; where it heard one. */
  function listen(pods: readonly BedPod[], family: 4 | 6) {
    const at = pods.map((pod) => ({ address: ownOf(pod, family), port: ++port }));
    const open = pods.map((pod, index) => {
      const fd = bed.socket(pod, () => sockets.openSocket(family, 'datagram'));
      sockets.bindSocket(fd, at[index]?.address ?? SERVICE[family], at[index]?.port ?? 0);
      return fd;
    });
    const answer = (): number => {
      let heard = -1;
      waitFor(() => {
        heard = open.findIndex((fd) => {
          const { got, from } = sockets.receiveFrom(fd, Buffer.alloc(64));
          return got.kind === 'done' && sockets.sendSocket(fd, Buffer.from('answer'), from).kind === 'done';
        });
        return heard >= 0;
      }, 2000);
      return heard;
    };
    const close = (): void => {
      for (const fd of open) bed.close(fd);
    };
    return { at, answer, close };
  }

  /** Who answered what was just sent. */
  function sender(fd: number): string {
    let from: sockets.Peer | null = null;
    waitFor(() => {
      from = sockets.receiveFrom(fd, Buffer.alloc(64)).from;
      return from !== null;
    }, 2000);
    return said(from);
  }

  const said = (peer: sockets.Peer | null): string =>
    peer === null ? 'nobody' : `${formatAddress(peer.address)} ${peer.port}`;

  for (const family of [4, 6] as const) {
    for (const [name, protocol] of PROTOCOLS) {
      it(`reach a pod by its Service: ${name} over IPv${family}`, () => {
        assert.ok(talks(talkTo(bed.pod(0), family, protocol)));
      });

      it(`are let in by Service where they are by the backend’s own address: ${name} over IPv${family}`, () => {
        const talk = talkTo(bed.pod(2), family, protocol);
        assert.deepEqual([talks(talk), talks({ ...talk, to: talk.at })], [false, false]);
        const open = talkTo(bed.pod(1), family, protocol);
        assert.deepEqual([talks(open), talks({ ...open, to: open.at })], [true, true]);
      });

      it(`are the node’s alone: a socket of another namespace means what it says, ${name} over IPv${family}`, () => {
        const talk = talkTo(bed.pod(0), family, protocol, 'pod4');
        assert.deepEqual([talks(talk), talks({ ...talk, to: talk.at })], [false, true]);
      });

      it(`learn it, too, where a balancer's ranges leave the node out: ${name} over IPv${family}`, () => {
        const talk = talkTo(bed.pod(0), family, protocol);
        const step = serving(SERVICE[family], protocol, [talk.at]);
        for (const node of [false, true]) {
          assert.ok(step.kind === 'service' && step.value !== null);
          datapath.apply([{ ...step, value: { ...step.value, clients: { blocks: [], node } } }]);
          withSocket(family, protocol === TCP ? 'stream' : 'datagram', (fd) => {
            const { kind } = sockets.connectSocket(fd, SERVICE[family], 80);
            assert.equal(kind === 'failed', !node);
          });
        }
      });

      it(`learn at once that nobody serves: ${name} over IPv${family}`, () => {
        datapath.apply([serving(SERVICE[family], protocol, [])]);
        withSocket(family, protocol === TCP ? 'stream' : 'datagram', (fd) => {
          const asked = sockets.connectSocket(fd, SERVICE[family], 80);
          assert.deepEqual(asked, { kind: 'failed', code: 'ECONNREFUSED' });
        });
      });

      it(`are sent nowhere by a Service that is not there: ${name} over IPv${family}`, () => {
        const talk = talkTo(bed.pod(0), family, protocol);
        datapath.apply([{ kind: 'service', at: { address: SERVICE[family], protocol, port: 80 }, value: null }]);
        assert.deepEqual([talks(talk), talks({ ...talk, to: talk.at })], [false, true]);
      });
    }

    it(`see the Service as their peer, over IPv${family}`, () => {
      const stream = talkTo(bed.pod(0), family, TCP);
      const conversation = new Conversation(stream);
      withSocket(family, 'stream', (fd) => {
        sockets.connectSocket(fd, SERVICE[family], 80);
        assert.ok(waitFor(() => isConnected(fd)));
        assert.equal(said(sockets.peerOf(fd)), said(stream.to));
      });
      conversation.close();
    });

    it(`hear the Service by a socket that is not connected, of each of several, over IPv${family}`, () => {
      const { at, answer, close } = listen([bed.pod(0), bed.pod(1)], family);
      const services = [SERVICE[family], OTHER[family]];
      datapath.apply(services.map((each, index) => serving(each, UDP, at.slice(index, index + 1))));
      withSocket(family, 'datagram', (fd) => {
        for (const index of [0, 1, 0]) {
          const to = { address: services[index] ?? SERVICE[family], port: 80 };
          assert.equal(sockets.sendSocket(fd, Buffer.from('question'), to).kind, 'done');
          assert.equal(answer(), index);
          assert.equal(sender(fd), said(to));
        }
        datapath.apply([serving(SERVICE[family], UDP, [])]);
        const refused = sockets.sendSocket(fd, Buffer.from('question'), { address: SERVICE[family], port: 80 });
        assert.deepEqual(refused, { kind: 'failed', code: 'ECONNREFUSED' });
      });
      close();
    });

    it(`stay with a backend while it serves, by a socket that is not connected, over IPv${family}`, () => {
      const { at, answer, close } = listen([bed.pod(0), bed.pod(1)], family);
      const to = { address: SERVICE[family], port: 80 };
      datapath.apply([serving(to.address, UDP, at)]);
      withSocket(family, 'datagram', (fd) => {
        const ask = (): number => {
          assert.equal(sockets.sendSocket(fd, Buffer.from('question'), to).kind, 'done');
          const heard = answer();
          assert.equal(sender(fd), said(to));
          return heard;
        };
        const first = ask();
        for (let each = 0; each < 5; each++) assert.equal(ask(), first);
        datapath.apply([serving(to.address, UDP, at.slice(1 - first, 2 - first))]);
        assert.equal(ask(), 1 - first);
      });
      close();
    });

    it(`are spread over backends, and are one client to a Service that keeps clients, over IPv${family}`, () => {
      const { at, answer, close } = listen([bed.pod(0), bed.pod(1)], family);
      const to = { address: SERVICE[family], port: 80 };
      const asked = (): number =>
        withSocket(family, 'datagram', (fd) => {
          sockets.sendSocket(fd, Buffer.from('question'), to);
          return answer();
        });
      datapath.apply([serving(to.address, UDP, at)]);
      assert.equal(new Set(Array.from({ length: 40 }, asked)).size, 2);
      datapath.apply([serving(to.address, UDP, at, 100)]);
      const kept = asked();
      assert.deepEqual(new Set(Array.from({ length: 20 }, asked)), new Set([kept]));
      close();
    });
  }

  it('mean a pod where they say a pod’s address, whatever a Service says', () => {
    const [pod, other] = [bed.pod(1), bed.pod(0)];
    const at = { address: pod.v4, port: 80 };
    const key = { address: pod.v4, protocol: TCP, port: 80 };
    datapath.apply([serving(pod.v4, TCP, [{ address: other.v4, port: ++port }])]);
    assert.ok(talks({ protocol: TCP, client: netnsOf('router'), server: netnsOf(pod.name), to: at, at }));
    datapath.apply([{ kind: 'service', at: key, value: null }]);
  });

  it('are not sent to the machine’s own loopback, whoever is said to serve', () => {
    const at = { address: address('127.0.0.1'), port: ++port };
    datapath.apply([serving(SERVICE[4], TCP, [at])]);
    const own = { protocol: TCP, client: netnsOf('router'), server: netnsOf('router'), at } as const;
    assert.deepEqual(
      [talks({ ...own, to: { address: SERVICE[4], port: 80 } }), talks({ ...own, to: at })],
      [false, true],
    );
  });

  it('are refused while the tables can’t be told, but for the time of a bypass', () => {
    const talk = talkTo(bed.pod(0), 4, TCP);
    const asked = (): sockets.Transfer => withSocket(4, 'stream', (fd) => sockets.connectSocket(fd, SERVICE[4], 80));
    const refused = { kind: 'failed', code: 'ECONNREFUSED' };
    assert.ok(talks(talk));
    setClosed(1n);
    assert.deepEqual(asked(), refused);
    datapath.bypass = process.hrtime.bigint() + 60_000_000_000n;
    assert.ok(talks(talk));
    datapath.bypass = 0n;
    assert.deepEqual(asked(), refused);
    setClosed(0n);
    assert.ok(talks(talk));
    const key = { address: SERVICE[4], protocol: TCP, port: 80 };
    withTable('service_map', (map) => {
      updateBatch(map, serviceKeyBytes(key), taggedBytes(1 << 30, serviceTag(key)), 1);
    });
    assert.deepEqual(asked(), refused, 'a word that leads to no record');
  });

  it('reach IPv4 Services by sockets of IPv6, connected or not', async () => {
    const stream = talkTo(bed.pod(0), 4, TCP);
    const listener = new Conversation(stream);
    const client = connect({ host: `::ffff:${formatAddress(SERVICE[4])}`, port: 80 });
    await once(client, 'connect');
    assert.deepEqual([client.remoteFamily, client.remoteAddress], ['IPv6', `::ffff:${formatAddress(SERVICE[4])}`]);
    client.destroy();
    listener.close();
    const { at, answer, close } = listen([bed.pod(0)], 4);
    datapath.apply([serving(SERVICE[4], UDP, at)]);
    const socket = createSocket('udp6');
    const heard = once(socket, 'message');
    socket.send('question', 80, `::ffff:${formatAddress(SERVICE[4])}`);
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(answer(), 0);
    const [, from] = await heard;
    assert.equal(from.address, `::ffff:${formatAddress(SERVICE[4])}`);
    socket.close();
    close();
  });

  it('go on while nobody runs, and what their sockets mean is known to the next process', () => {
    const { at, answer, close } = listen([bed.pod(0)], 4);
    const to = { address: SERVICE[4], port: 80 };
    datapath.apply([serving(to.address, UDP, at)]);
    withSocket(4, 'datagram', (fd) => {
      const ask = (): string => {
        sockets.sendSocket(fd, Buffer.from('question'), to);
        assert.equal(answer(), 0);
        return sender(fd);
      };
      assert.equal(ask(), said(to));
      sockets.sendSocket(fd, Buffer.from('question'), to);
      assert.equal(answer(), 0);
      datapath.close();
      const before = programsAtRoot();
      assert.equal(ask(), said(to));
      datapath = open();
      settle([serving(to.address, UDP, at)]);
      assert.equal(sender(fd), said(to));
      assert.equal(ask(), said(to));
      assert.equal(programsAtRoot().length, before.length);
      assert.notDeepEqual(programsAtRoot(), before);
    });
    close();
  });

  it('are put back where somebody took them off or unpinned them, which is said', () => {
    const talk = talkTo(bed.pod(0), 4, TCP);
    const path = `${pinPath(bed.prefix, 'node-a')}/host_connect4`;
    const link = getPinned(path);
    assert.ok(link !== null);
    detachLink(link);
    closeObject(link);
    assert.equal(talks(talk), false);
    datapath.repair();
    assert.match(datapath.complaints.join(), /were taken off; they are put back/);
    assert.ok(talks(talk));
    rmSync(path);
    datapath.repair();
    assert.deepEqual(datapath.complaints, []);
    assert.ok(getPinned(path) !== null);
  });

  it('of two agents on one machine are each one’s own', () => {
    const mine = talkTo(bed.pod(0), 4, TCP);
    const home = bed;
    const first = datapath;
    const other = new PodBed('host-other', 1);
    bed = other;
    datapath = openDatapath({ instance: other.prefix, node: 'node-a', sizes: SIZES, hostClients: true });
    try {
      for (const pod of other.pods) datapath.attach(pod.link);
      datapath.apply([
        ...ground(),
        ...other.pods.flatMap(({ link }) => link.addresses.map((each) => endpointStep(each))),
      ]);
      datapath.settle();
      assert.deepEqual(datapath.complaints, []);
      assert.ok(talks(mine), 'the first one’s client reaches what the first one says');
      const theirs = talkTo(other.pod(0), 4, TCP);
      assert.ok(talks(theirs));
      assert.ok(talks(mine));
      datapath.detachAll();
      assert.equal(talks(theirs), false);
      assert.ok(talks(mine));
    } finally {
      datapath.close();
      unpinDatapath(other.prefix, 'node-a');
      other.destroy();
      bed = home;
      datapath = first;
      sockets.enterNetns(netnsOf('router'));
    }
  });

  it('reach nobody with the hooks off: those go with the pins, or with an agent that is not told to serve', () => {
    const talk = talkTo(bed.pod(0), 4, TCP);
    const pins = (): readonly string[] =>
      readdirSync(pinPath(bed.prefix, 'node-a')).filter((name) => name.startsWith('host_'));
    assert.ok(talks(talk));
    const programs = programsAtRoot();
    assert.deepEqual([pins().length, programs.length], [8, 8]);
    datapath.close();
    datapath = open(false);
    settle([serving(SERVICE[4], TCP, [talk.at])]);
    assert.equal(talks(talk), false);
    assert.deepEqual([pins(), programsAtRoot()], [[], []]);
    assert.ok(talks({ ...talk, to: talk.at }));
    datapath.close();
    datapath = open();
    settle([serving(SERVICE[4], TCP, [talk.at])]);
    assert.ok(talks(talk));
    const last = programsAtRoot();
    datapath.close();
    unpinDatapath(bed.prefix, 'node-a');
    assert.deepEqual(
      idsAtRoot().filter((id) => last.includes(id)),
      [],
    );
    assert.equal(talks(talk), false);
    datapath = open();
    settle();
  });

  function withTable(name: string, work: (map: MapHandle) => void): void {
    const fd = getPinned(`${tablesPath(bed.prefix, 'node-a')}/${name}`);
    assert.ok(fd !== null);
    work(handleOf(fd));
    closeObject(fd);
  }

  /** As a change leaves the tables that failed half-way (1). */
  function setClosed(closed: bigint): void {
    withTable('state_map', (map) => {
      const value = Buffer.alloc(map.valueSize);
      assert.ok(lookupElement(map, Buffer.alloc(4), value));
      value.writeBigUInt64LE(closed, STATE.closed);
      updateBatch(map, Buffer.alloc(4), value, 1);
    });
  }

  /** Ids of this node's programs at the root, by its pins: those of other test runs stand beside them. */
  function programsAtRoot(): readonly number[] {
    const folder = pinPath(bed.prefix, 'node-a');
    const there = idsAtRoot();
    return readdirSync(folder).flatMap((name) => {
      const link = name.startsWith('host_') ? getPinned(`${folder}/${name}`) : null;
      if (link === null) return [];
      const { program } = linkTarget(link);
      closeObject(link);
      return there.includes(program) ? [program] : [];
    });
  }
});

function idsAtRoot(): readonly number[] {
  const shown = execFileSync('bpftool', ['-j', 'cgroup', 'show', String(cgroupRoot())], {
    encoding: 'utf8',
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` },
  });
  const programs = shown.trim() === '' ? [] : (JSON.parse(shown) as readonly { readonly id: number }[]);
  return programs.map(({ id }) => id);
}

function isConnected(fd: number): boolean {
  try {
    return sockets.peerOf(fd) !== null;
  } catch {
    return false;
  }
}

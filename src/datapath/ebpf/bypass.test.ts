// What a bypass lets through, and that its end needs nobody; and what audit means to connections older than the hooks.
// Frames through the kernel programs (BPF_PROG_TEST_RUN). Needs root.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Audit, Step } from '#compile/plan.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import type { Address } from '#net/address.ts';
import { TCP, UDP } from '#net/protocol.ts';
import { frame } from '#test/support/frames.ts';
import { endpointStep, ground, identitySteps, interval, isolatingSet } from '#test/support/hand-plan.ts';
import { needsRoot } from '#test/support/needs.ts';
import { type BedPod, PodBed } from '#test/support/pod-bed.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from './open.ts';
import { inject } from './test-run.ts';

const FRIEND = 5;
const MINUTE_NS = 60_000_000_000n;

describe('a bypass (root)', needsRoot, () => {
  let bed: PodBed;
  let datapath: EbpfDatapath;
  let a: BedPod;
  let b: BedPod;
  let port = 1000;

  const open = (): EbpfDatapath =>
    openDatapath({
      instance: bed.prefix,
      node: 'node-a',
      sizes: { ct_map: 512, arena: 65536 },
      knobs: { dropWindow: 0n, dropRate: 1_000_000n },
    });

  before(() => {
    mountBpffs();
    bed = new PodBed('bypass', 2);
    [a, b] = [bed.pod(0), bed.pod(1)];
    datapath = open();
    fill();
  });

  after(() => {
    datapath.detachAll();
    datapath.close();
    unpinDatapath(bed.prefix, 'node-a');
    bed.destroy();
  });

  /** b lets nobody in. */
  function fill(): void {
    for (const pod of bed.pods) datapath.attach(pod.link, 60_000);
    datapath.apply([...ground(), ...identitySteps(FRIEND, [a.v4, a.v6]), ...isolatingSet(9, 90)]);
    datapath.apply([...endpoints(a), ...endpoints(b, { ingress: 9 })]);
    datapath.settle();
  }

  function endpoints(pod: BedPod, sets: { egress?: number; ingress?: number } = {}, audit?: Audit): Step[] {
    return pod.link.addresses.map((each): Step => {
      const step = endpointStep(each, sets, pod.name);
      if (step.kind !== 'endpoint' || step.value === null || audit === undefined) return step;
      return { ...step, value: { ...step.value, audit } };
    });
  }

  type Sent = { readonly flags?: string; readonly sourcePort: number; readonly destinationPort: number };

  /** The verdict, and what was told of it. */
  function send(from: BedPod, to: Address, { flags, ...ports }: Sent): string {
    const protocol = flags === undefined ? UDP : TCP;
    const source = { sourceMac: from.link.mac, source: from.v4, destination: to, protocol };
    const bytes = frame({ ...source, ...(flags === undefined ? {} : { flags }), ...ports });
    const place = { hook: 'from-pod', interfaceIndex: from.link.interfaceIndex } as const;
    const { verdict, events } = inject(datapath, { frame: bytes, ...place });
    const told = events.filter(({ kind }) => kind !== 'new' && kind !== 'close');
    return [verdict === 'drop' ? 'drop' : 'pass', ...told.map(({ kind, reason }) => `${kind} ${reason}`)].join(', ');
  }

  const ask = (flags?: string): string => send(a, b.v4, { ...asked(), ...(flags === undefined ? {} : { flags }) });
  const answer = (flags?: string): string =>
    send(b, a.v4, { sourcePort: 80, destinationPort: port, ...(flags === undefined ? {} : { flags }) });
  const asked = (): Sent => ({ sourcePort: port, destinationPort: 80 });
  const now = (): bigint => process.hrtime.bigint();

  it('lets pass what policy denies, tells it, and is over by the clock alone', () => {
    port++;
    assert.equal(ask('S'), 'drop, drop policy');
    datapath.bypass = now() + MINUTE_NS;
    assert.equal(ask('S'), 'pass, audit policy');
    assert.equal(answer('SA'), 'pass');
    assert.equal(ask('A'), 'pass, audit policy');
    assert.equal(ask('PA'), 'pass, audit policy');
    datapath.moveClock(61);
    assert.equal(answer('PA'), 'drop, drop policy', 'an open connection outlives it');
    assert.equal(ask('PA'), 'drop, drop denied-earlier');
    assert.equal(ask('S'), 'drop, drop policy');
    datapath.moveClock(-61);
    datapath.bypass = 0n;
  });

  it('is over where it is ended', () => {
    port++;
    datapath.bypass = now() + MINUTE_NS;
    assert.equal(ask(), 'pass, audit policy');
    datapath.bypass = 0n;
    assert.equal(answer(), 'drop, drop policy');
  });

  it('lets datagrams pass that were cut before it, and cut TCP only as a new connection', () => {
    port++;
    datapath.apply(endpoints(b));
    for (const flags of ['S', undefined]) assert.equal(ask(flags), 'pass');
    assert.equal(answer('SA'), 'pass');
    datapath.apply(endpoints(b, { ingress: 9 }));
    for (const flags of ['PA', undefined]) assert.equal(ask(flags), 'drop, drop policy');
    assert.equal(ask(), 'drop, drop denied-earlier');
    datapath.bypass = now() + MINUTE_NS;
    assert.equal(ask(), 'pass, audit policy');
    assert.equal(ask('PA'), 'drop, drop denied-earlier');
    assert.equal(ask('S'), 'pass, audit policy');
    datapath.bypass = 0n;
    assert.equal(ask(), 'drop, drop policy');
  });

  it('opens no forged source, and no pod whose policy is not known', () => {
    port++;
    datapath.bypass = now() + MINUTE_NS;
    const forged = frame({ sourceMac: a.link.mac, source: b.v4, destination: a.v4, protocol: UDP, ...asked() });
    const { verdict } = inject(datapath, { frame: forged, hook: 'from-pod', interfaceIndex: a.link.interfaceIndex });
    assert.equal(verdict, 'drop');
    datapath.apply(b.link.addresses.map((address): Step => ({ kind: 'endpoint', address, value: null })));
    assert.equal(ask('S'), 'drop, drop no-endpoint');
    datapath.apply(endpoints(b, { ingress: 9 }));
    assert.equal(ask('S'), 'pass, audit policy');
    datapath.bypass = 0n;
  });

  it('stands where its process has gone, and the next one finds it', () => {
    port++;
    const until = now() + MINUTE_NS;
    datapath.bypass = until;
    datapath.close();
    datapath = open();
    assert.equal(datapath.bypass, until);
    assert.equal(ask('S'), 'pass, audit policy', 'the old tables');
    fill();
    assert.equal(answer('SA'), 'pass');
    assert.equal(ask('A'), 'pass, audit policy', 'the new ones');
    datapath.bypass = 0n;
    assert.equal(ask('PA'), 'drop, drop policy');
  });

  it('is for a connection older than the hooks the last resort: the way that policy allows comes first', () => {
    port++;
    datapath.apply([...isolatingSet(8, 80, new Map([[FRIEND, [interval(0, 0xff_ffff, 'allow', 8)]]]))]);
    datapath.apply([...endpoints(a, { ingress: 9 }, 'all'), ...endpoints(b, { ingress: 8 }, 'all')]);
    // Seen as b's connection to a, which policy denies; it is a's to b.
    assert.equal(answer('PA'), 'pass');
    assert.equal(ask('PA'), 'pass');
    port++;
    datapath.apply(endpoints(b, { ingress: 9 }, 'all'));
    assert.equal(ask('PA'), 'pass, audit policy');
    datapath.apply(endpoints(b, { ingress: 9 }));
    assert.equal(ask('PA'), 'drop, drop policy');
    datapath.apply(endpoints(a));
  });

  it('opens a node that a failed change has closed', () => {
    port++;
    datapath.apply(endpoints(b));
    assert.equal(ask(), 'pass');
    assert.throws(() => datapath.apply([{ kind: 'set', set: 99, value: { layers: [4711] } }]));
    assert.equal(ask(), 'drop, drop table-error');
    datapath.bypass = now() + MINUTE_NS;
    assert.equal(ask(), 'pass');
    datapath.bypass = 0n;
    assert.equal(ask(), 'drop, drop table-error');
  });
});

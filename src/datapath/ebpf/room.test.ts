// Tables that fill up, and datapaths that can't be opened: what they leave behind. Needs root.
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import type { Step } from '#compile/plan.ts';
import { udp } from '#datapath/packets.ts';
import { mountBpffs, pinPath } from '#kernel/bpffs.ts';
import type { Address } from '#net/address.ts';
import { UDP } from '#net/protocol.ts';
import { endpointStep, ground, identitySteps, interval, isolatingSet } from '#test/support/hand-plan.ts';
import { needsRoot } from '#test/support/needs.ts';
import { address, PodBed, udpArrives } from '#test/support/pod-bed.ts';
import { findLack } from './kernel-check.ts';
import { openDatapath, unpinDatapath } from './open.ts';
import { inject } from './test-run.ts';

const SIZES = { ct_map: 1280 };

describe('room for tables (root)', needsRoot, () => {
  let bed: PodBed;

  before(() => {
    mountBpffs();
    bed = new PodBed('room', 2);
  });

  after(() => {
    unpinDatapath(bed.prefix, 'node-a');
    bed.destroy();
  });

  it('leaves no pins where opening fails half-way', () => {
    const path = pinPath(bed.prefix, 'node-a');
    // The kernel refuses a map without room, once those before it are pinned.
    const bad = { instance: bed.prefix, node: 'node-a', sizes: { ...SIZES, ct_map: 0 } };
    assert.throws(() => openDatapath(bad), { name: 'DatapathError' });
    assert.equal(existsSync(path), false);
  });

  it('leaves the pins of an earlier process where taking over fails, and they can still be taken over', () => {
    const [a, b] = [bed.pod(0), bed.pod(1)];
    const options = { instance: bed.prefix, node: 'node-a', sizes: SIZES };
    const first = openDatapath(options);
    for (const pod of bed.pods) first.attach(pod.link);
    first.apply([...ground(), ...isolatingSet(7, 70)]);
    first.apply([endpointStep(a.v4, {}, a.name), endpointStep(b.v4, { ingress: 7 }, b.name)]);
    first.settle();
    first.close();
    const pins = readdirSync(pinPath(bed.prefix, 'node-a')).sort();
    assert.throws(() => openDatapath({ ...options, sizes: { ...SIZES, ct_map: 0 } }), { name: 'DatapathError' });
    assert.deepEqual(readdirSync(pinPath(bed.prefix, 'node-a')).sort(), pins);
    assert.ok(!udpArrives(bed, a, b, { family: 4, port: 80 }) && udpArrives(bed, b, a, { family: 4, port: 80 }));
    const second = openDatapath(options);
    for (const pod of bed.pods) second.attach(pod.link);
    second.detachAll();
    second.close();
    unpinDatapath(bed.prefix, 'node-a');
  });

  it('takes many changes at once, though what each deletes waits for packets under way', () => {
    const options = { instance: bed.prefix, node: 'node-a', sizes: { ...SIZES, class_map: 64 } };
    const datapath = openDatapath(options);
    const [a, b] = [bed.pod(0), bed.pod(1)];
    const identities = Array.from({ length: 10 }, (_, index) => 100 + index);
    for (const pod of bed.pods) datapath.attach(pod.link);
    datapath.apply([...ground(), ...identities.flatMap((each) => identitySteps(each, each === 100 ? [a.v4] : []))]);
    const everything = [interval(0, 0xff_ffff, 'allow', 8)];
    for (let layer = 10; layer < 110; layer++) {
      // A turn of layers, as a compiler makes it: the new one is used before the old one goes.
      const gone: Step[] =
        layer === 10
          ? []
          : [
              { kind: 'set', set: layer - 1, value: null },
              { kind: 'layer', layer: layer - 1, value: null },
            ];
      datapath.apply([
        ...isolatingSet(layer, 70, new Map(identities.map((each) => [each, everything]))),
        endpointStep(a.v4, {}, a.name),
        endpointStep(b.v4, { ingress: layer }, b.name),
        ...gone,
      ]);
    }
    assert.equal(datapath.failure, null);
    assert.ok(udpArrives(bed, a, b, { family: 4, port: 81 }));
    datapath.detachAll();
    datapath.close();
  });

  it('a Service that found no room has the datagrams of flows to its address once it finds some', () => {
    unpinDatapath(bed.prefix, 'node-a');
    const sizes = { ...SIZES, service_map: 1 };
    const datapath = openDatapath({ instance: bed.prefix, node: 'node-a', sizes });
    const [a, b] = [bed.pod(0), bed.pod(1)];
    const [first, second] = ['10.96.0.1', '10.96.0.2'].map(address);
    assert.ok(first && second);
    const service = (of: Address, state: 'there' | 'gone'): Step => {
      const at = { address: of, protocol: UDP, port: 80 };
      const value = { ...at, backends: [{ address: b.v4, port: 8080 }], places: [0] };
      return { kind: 'service', at, value: state === 'there' ? value : null };
    };
    const { interfaceIndex, mac } = a.link;
    const frame = udp({ from: a.v4, to: second, sport: 4000, dport: 80, sourceMac: mac });
    const isSentOn = (): boolean => {
      const met = inject(datapath, { hook: 'from-pod', interfaceIndex, frame });
      assert.notEqual(met.verdict, 'drop');
      return !Buffer.from(met.frame.subarray(30, 34)).equals(Buffer.from(frame.subarray(30, 34)));
    };
    datapath.attach(a.link);
    datapath.apply([...ground(), endpointStep(a.v4, {}, a.name), service(first, 'there')]);
    datapath.settle();
    assert.equal(isSentOn(), false, 'no Service yet');
    datapath.apply([service(second, 'there')]);
    assert.deepEqual(datapath.lacks, [{ table: 'service_map', count: 1, rule: null }]);
    assert.equal(isSentOn(), false, 'no room');
    datapath.apply([service(first, 'gone')]);
    assert.deepEqual(datapath.lacks, []);
    assert.ok(isSentOn());
    datapath.detachAll();
    datapath.close();
  });
});

describe('what a machine lacks', () => {
  const GOOD = { release: '6.1.0-56-cloud-amd64', user: 0, btf: true };
  const CASES = [
    ['nothing', GOOD, null],
    ['nothing, newer', { ...GOOD, release: '7.0.0' }, null],
    [
      'a newer kernel',
      { ...GOOD, release: '5.15.0-100-generic' },
      'Linux 6.1 or newer is needed for the kernel programs; this is 5.15.0-100-generic',
    ],
    [
      'a newer minor version',
      { ...GOOD, release: '6.0.19' },
      'Linux 6.1 or newer is needed for the kernel programs; this is 6.0.19',
    ],
    ['root', { ...GOOD, user: 1000 }, 'root is needed to load the kernel programs; this is user 1000'],
    [
      'types',
      { ...GOOD, btf: false },
      '/sys/kernel/btf/vmlinux is missing: the kernel must be built with CONFIG_DEBUG_INFO_BTF',
    ],
  ] as const;
  for (const [what, machine, lack] of CASES) it(`lacks ${what}`, () => assert.equal(findLack(machine), lack));
});

// Answers of Services whose flows are judged anew while another CPU moves them: these can't be written then, and go on all
// the same. Needs root.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { CT_VALUE, ENTRY_FLAG } from '#datapath/ebpf/encode/abi.gen.ts';
import { tcp } from '#datapath/packets.ts';
import { allKeys, lookupElement, updateBatch } from '#kernel/bpf.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { TCP } from '#net/protocol.ts';
import { endpointStep, ground, OPEN_SET } from '#test/support/hand-plan.ts';
import { needsRoot } from '#test/support/needs.ts';
import { withPinnedMap } from '#test/support/pinned-map.ts';
import { address, type BedPod, PodBed } from '#test/support/pod-bed.ts';
import { tablesPath } from './generations.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from './open.ts';
import { inject } from './test-run.ts';

const NODE = 'node-a';
const SERVICE = address('10.96.0.1');
const LISTENS = 8080;
/** Whom a pod hears that asks itself. */
const HAIRPIN = address('169.254.77.1');
const REMOTE = address('203.0.113.9');

type Ends = { readonly from: string; readonly to: string };

describe('answers while another CPU moves their flow (root)', needsRoot, () => {
  let bed: PodBed;
  let datapath: EbpfDatapath;
  let pod: BedPod;

  before(() => {
    mountBpffs();
    bed = new PodBed('answers-anew', 1);
    pod = bed.pod(0);
    datapath = openDatapath({ instance: bed.prefix, node: NODE, sizes: { ct_map: 512 } });
    datapath.attach(pod.link);
    datapath.apply([...ground(), ...pod.link.addresses.map((each) => endpointStep(each, {}, pod.name))]);
    datapath.settle();
  });

  after(() => {
    datapath.detachAll();
    datapath.close();
    unpinDatapath(bed.prefix, NODE);
    bed.destroy();
  });

  function send(hook: 'from-pod' | 'to-pod', frame: Uint8Array): Ends {
    const met = inject(datapath, { hook, interfaceIndex: pod.link.interfaceIndex, frame });
    assert.notEqual(met.verdict, 'drop');
    const gone = Buffer.from(met.frame);
    const end = (at: number, port: number): string =>
      `${gone.subarray(at, at + 4).join('.')} ${gone.readUInt16BE(port)}`;
    return { from: end(26, 34), to: end(30, 36) };
  }

  /** As a CPU that is about to put another element in the place of each; it is done some hundred nanoseconds later. */
  function freeze(): void {
    withPinnedMap(tablesPath(bed.prefix, NODE), 'ct_map', (map) => {
      const value = Buffer.alloc(CT_VALUE.size);
      for (const key of allKeys(map)) {
        assert.ok(lookupElement(map, key, value));
        value.writeUInt8(value.readUInt8(CT_VALUE.flags) | ENTRY_FLAG.FROZEN, CT_VALUE.flags);
        updateBatch(map, key, value, 1);
      }
    });
  }

  /** `client`: as the backend sees it. */
  function answers(at: { backend: Address; client: Address; hook: 'from-pod' | 'to-pod'; sport: number }): void {
    const { backend, client, hook, sport } = at;
    const key = { address: SERVICE, protocol: TCP, port: sport };
    const backends = [{ address: backend, port: LISTENS }];
    datapath.apply([{ kind: 'service', at: key, value: { ...key, backends, places: [0] } }]);
    const sourceMac = pod.link.mac;
    const ask = { from: pod.v4, to: SERVICE, sport, dport: sport, sourceMac };
    const answer = { from: backend, to: client, sport: LISTENS, dport: sport, sourceMac };
    send('from-pod', tcp(ask));
    send(hook, tcp({ ...answer, flags: 'SA' }));
    send('from-pod', tcp({ ...ask, flags: 'A' }));
    const told = { from: `${formatAddress(SERVICE)} ${sport}`, to: `${formatAddress(pod.v4)} ${sport}` };
    assert.deepEqual(send(hook, tcp({ ...answer, flags: 'A' })), told);
    datapath.apply([{ kind: 'epoch', sets: [OPEN_SET], peers: [] }]);
    freeze();
    assert.deepEqual(send(hook, tcp({ ...answer, flags: 'A' })), told, 'judged anew');
  }

  it('are the Service’s all the same', () => {
    answers({ backend: REMOTE, client: pod.v4, hook: 'to-pod', sport: 4000 });
  });

  it('are for the pod itself all the same, where it asked itself', () => {
    answers({ backend: pod.v4, client: HAIRPIN, hook: 'from-pod', sport: 4001 });
  });
});

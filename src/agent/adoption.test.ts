// What becomes of pods that run, by what is found of them and what the kernel says.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatAddress } from '#net/address.ts';
import type { Attachment } from '#network/attachments.ts';
import type { FoundLink } from '#network/found-links.ts';
import type { Pod } from '#policy/world.ts';
import { podKey } from '#policy/world.ts';
import { address } from '#test/support/pod-bed.ts';
import { Adoption } from './adoption.ts';
import { LocalPods } from './local-pods.ts';
import type { Unfit } from './running-links.ts';

const GONE: Unfit = { why: 'no process of it was found', runs: false };

function pod(name: string, at: string): Pod {
  const workload = { kind: 'Pod', namespace: 'shop', name };
  return {
    ...{ key: podKey('shop', name), namespace: 'shop', name, uid: `u-${name}`, labels: {}, node: 'one', ports: [] },
    ...{ hostNetwork: false, finished: false, workload, addresses: [address(at)] },
  };
}

class Bench {
  readonly told: string[] = [];
  readonly hooked: string[] = [];
  readonly dropped: string[] = [];
  readonly pods = new LocalPods({ node: 'one', strict: false, tell: (text) => void this.told.push(text) });
  found: Readonly<Record<string, FoundLink | Unfit>> = {};
  refusal: Readonly<Record<string, string>> = {};
  readonly adoption: Adoption;

  constructor() {
    this.adoption = new Adoption(
      this.pods,
      {
        adopt: ({ pod: key }) => {
          const refusal = this.refusal[key] ?? null;
          if (refusal === null) this.hooked.push(key);
          return refusal;
        },
        enforces: () => true,
        change: () => undefined,
        tell: (text) => void this.told.push(text),
      },
      {
        take: async ({ namespace, name, uid = '' }, link) => this.#attachment({ namespace, name, uid }, link),
        drop: async ({ containerId, ifname, pod: { name } }) => {
          this.dropped.push(name);
          this.pods.release(`${containerId}@${ifname}` as Parameters<LocalPods['release']>[0]);
        },
      },
      (due) => new Map(due.map((each) => [each, this.found[each.name] ?? GONE])),
    );
  }

  #attachment(of: Attachment['pod'], { hostInterface, hostIndex, ifname, mac, addresses }: FoundLink): Attachment {
    const id = { containerId: of.uid, ifname, netns: '', pod: of, addresses, mac, hostInterface };
    return { ...id, foreignIndex: hostIndex, sequence: 1, isDone: true };
  }

  run(...pods: readonly Pod[]): void {
    this.pods.follow(pods.map((value) => ({ kind: 'pod', key: value.key, value })));
  }
}

function link(hostIndex: number, at: string): FoundLink {
  return {
    hostInterface: `veth${hostIndex}`,
    hostIndex,
    ifname: 'eth0',
    mac: '02:00:00:00:00:01',
    addresses: [formatAddress(address(at))],
  };
}

test('an interface that can’t have hooks is its own pod’s matter: it is named, and the others have theirs', async () => {
  const bench = new Bench();
  bench.run(pod('web', '10.8.0.2'), pod('db', '10.8.0.3'));
  bench.found = { web: link(5, '10.8.0.2'), db: link(6, '10.8.0.3') };
  bench.refusal = { 'shop/web': "somebody's ingress queue is there" };
  await bench.adoption.look();
  assert.deepEqual([bench.hooked, bench.dropped], [['shop/db'], ['web']]);
  assert.deepEqual(bench.adoption.unreached, ["shop/web runs without policy: somebody's ingress queue is there"]);
  await bench.adoption.look();
  assert.deepEqual(bench.dropped, ['web'], 'not all the time');
});

test('of a pod whose attachment is over nothing need be there; what runs of it is adopted or named, but not its old link', async () => {
  for (const [what, found, hooked, unreached] of [
    ['nothing', GONE, [], 0],
    ['the link of before', link(5, '10.8.0.2'), [], 0],
    ['another', link(9, '10.8.0.2'), ['shop/web'], 0],
    ['one without a place for hooks', { why: 'eth0 is no veth', runs: true }, [], 1],
  ] as const) {
    const bench = new Bench();
    bench.run(pod('web', '10.8.0.2'));
    const id = 'c1@eth0' as Parameters<LocalPods['release']>[0];
    const owner = { namespace: 'shop', name: 'web', uid: 'u-web' };
    bench.pods.claim(id, { pod: owner, addresses: link(5, '10.8.0.2').addresses, sequence: 1, foreignIndex: 5 });
    bench.pods.release(id);
    bench.found = { web: found };
    await bench.adoption.look();
    assert.deepEqual([bench.hooked, bench.adoption.unreached.length], [hooked, unreached], what);
  }
});

// A load that has lost its shape proves nothing: what the bars ask for is counted here.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Allowances, NODE_ASKS } from '#compile/allowance.ts';
import { atomsOf } from '#compile/parts.ts';
import type { Policy } from '#policy/model.ts';
import type { WorldEvent } from '#policy/world.ts';
import { CalicoLoad } from './calico-load.ts';
import { FULL, LOCAL_PODS, Load, MILLION, NODE, SPACE, USUAL } from './load.ts';

type Counts = { pods: number; local: number; policies: number; selecting: number; rules: number };

function count(pages: Iterable<readonly WorldEvent[]>): Counts {
  const counts = { pods: 0, local: 0, policies: 0, selecting: 0, rules: 0 };
  const keys = new Set<string>();
  for (const event of [...pages].flat()) {
    assert.ok(event.value !== null);
    keys.add(`${event.kind} ${'key' in event ? event.key : event.name}`);
    if (event.kind === 'pod') counts.pods++;
    if (event.kind === 'pod' && event.value.node === NODE) counts.local++;
    if (event.kind === 'policy') countPolicy(counts, event.value);
  }
  assert.equal([...keys].filter((key) => key.startsWith('p')).length, counts.pods + counts.policies, 'each thing once');
  return counts;
}

function countPolicy(counts: Counts, policy: Policy): void {
  counts.policies++;
  const { namespaces, pods } = policy.subject;
  if (namespaces.kind !== 'named' || namespaces.name !== SPACE || pods.requirements.length > 0) return;
  counts.selecting++;
  counts.rules += policy.egress.length + policy.ingress.length;
}

test('the load has 10 000 policies and 100 000 pods; 1 000 policies and 10 000 rules select all 110 measured pods', () => {
  const counts = count(new Load(FULL).pages());
  assert.equal(counts.policies, 10_000);
  assert.equal(counts.pods, 100_000);
  assert.equal(counts.local, LOCAL_PODS);
  assert.ok(counts.selecting >= 1000 && counts.rules >= 10_000);
  assert.ok(MILLION.selecting * MILLION.rules >= 1_000_000);
});

test('the usual load has 1 000 policies and 5 000 pods', () => {
  const counts = count(new Load(USUAL).pages());
  assert.deepEqual([counts.policies, counts.pods, counts.local], [1000, 5000, 110]);
});

test("the shape of Calico's production cluster: 19 992 rules, 3 708 sets, 256 000 members, all rules on the measured pods", () => {
  const load = new CalicoLoad();
  const counts = count(load.pages());
  assert.deepEqual([counts.policies, counts.rules], [294, 19_992]);
  assert.equal(load.members, 256_000);
  const named = Array.from({ length: 294 }, (_, index) => load.policy(index))
    .flatMap((policy) => [...policy.egress, ...policy.ingress])
    .flatMap((rule) => (rule.peers.kind === 'these' ? rule.peers.peers : []))
    .filter((peer) => peer.kind === 'pods');
  assert.equal(new Set(named.map((peer) => JSON.stringify(peer))).size, 3708);
  assert.ok(Math.abs(named.length / 19_992 - 0.242) < 0.002, `${named.length} rules name a set`);
});

test('what the peers of each load ask for is within the allowances of its namespaces', () => {
  for (const load of [new Load(USUAL), new Load(FULL), new CalicoLoad()]) {
    let atoms = 0;
    const allowances = new Allowances({ acquire: () => atoms++, release: () => undefined }, NODE_ASKS);
    for (const event of [...load.pages()].flat()) {
      if (event.kind !== 'policy' || event.value === null) continue;
      const allowance = allowances.join(event.value.source.namespace);
      for (const spec of atomsOf(event.value)) {
        assert.notEqual(allowance.acquire(spec), null, `${event.key} ${JSON.stringify(spec)}`);
      }
    }
    assert.ok(atoms > 0);
  }
});

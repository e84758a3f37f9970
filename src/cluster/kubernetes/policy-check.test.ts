// When pods that wait for the policies of their namespace are admitted, by a server that is a list of answers.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { type Pod, podKey } from '#policy/world.ts';
import { VirtualTime } from '#test/support/virtual-time.ts';
import { KINDS, readObject } from './kinds.ts';
import { type CheckHost, PolicyCheck } from './policy-check.ts';
import { ApiError } from './retry.ts';

const KIND = KINDS.find(({ kind }) => kind === 'NetworkPolicy');
const WEB: Pod = {
  ...{ key: podKey('shop', 'web'), namespace: 'shop', name: 'web', uid: 'u', labels: {}, node: 'one', ports: [] },
  ...{ hostNetwork: false, finished: false, workload: { kind: 'Pod', namespace: 'shop', name: 'web' }, addresses: [] },
};

/** A policy; `port` is what it lets through. */
function policy(name: string, port: number): unknown {
  const ingress = [{ ports: [{ port }] }];
  return { metadata: { name, namespace: 'shop' }, spec: { podSelector: {}, ingress } };
}

/** What is known here of policies. */
function known(...policies: readonly unknown[]): ReadonlyMap<string, string> {
  return new Map(
    policies.map((raw): [string, string] => {
      assert.ok(KIND);
      const reading = readObject(KIND, raw);
      assert.ok(reading);
      return [reading.id, reading.digest];
    }),
  );
}

function list(...items: readonly unknown[]): unknown {
  return { metadata: { resourceVersion: '7' }, items };
}

class Bench {
  readonly asked: string[] = [];
  readonly said: (string | null)[] = [];
  readonly check: PolicyCheck;
  known: ReadonlyMap<string, string> = new Map();
  waiting: readonly Pod[] = [WEB];
  readonly admitted: (readonly Pod[])[] = [];
  readonly stalled: string[] = [];
  readonly time: VirtualTime = new VirtualTime();

  /** The last answer is given again and again. */
  constructor(t: TestContext, answers: readonly (() => unknown)[]) {
    const get = async (path: string): Promise<unknown> => {
      this.asked.push(path);
      return answers[Math.min(this.asked.length, answers.length) - 1]?.();
    };
    const stream = (): Promise<void> => Promise.reject(new Error('nobody watches here'));
    const host: CheckHost = {
      waiting: () => this.waiting,
      known: () => this.known,
      admit: (pods) => {
        this.admitted.push(pods);
        this.waiting = this.waiting.filter((pod) => !pods.includes(pod));
      },
      state: (_, problem) => void this.said.push(problem),
      stalled: ({ kind }) => void this.stalled.push(kind),
    };
    this.check = new PolicyCheck({ get, stream }, 2, host, this.time.pause);
    t.after(() => this.check.close());
  }

  /** Whether nobody waits any more once so much time has passed. */
  async isAdmitted(afterMs = 2000): Promise<boolean> {
    await this.time.pass(afterMs);
    return this.waiting.length === 0;
  }
}

test('pods are admitted where what is known is what is listed, over all pages', async (t) => {
  const first = {
    ...(list(policy('a', 1), policy('b', 2)) as object),
    metadata: { resourceVersion: '7', continue: 'n' },
  };
  const bench = new Bench(t, [() => first, () => list(policy('c', 3))]);
  bench.known = known(policy('a', 1), policy('b', 2), policy('c', 3));
  bench.check.look('shop');
  assert.ok(await bench.isAdmitted());
  const path = '/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies';
  assert.deepEqual(bench.asked, [`${path}?limit=2`, `${path}?limit=2&continue=n`]);
});

for (const [what, now] of [
  ['is new', [policy('a', 1), policy('b', 2)]],
  ['has changed', [policy('a', 9)]],
  ['is gone', []],
] as const) {
  test(`pods wait where a policy ${what}, and go on as soon as that is known`, async (t) => {
    const bench = new Bench(t, [() => list(...now)]);
    bench.known = known(policy('a', 1));
    bench.check.look('shop');
    assert.ok(!(await bench.isAdmitted(120)));
    assert.equal(bench.asked.length, 1, 'it is not asked all the time');
    bench.check.news('other');
    await bench.time.pass(20);
    assert.equal(bench.asked.length, 1);
    bench.known = known(...now);
    bench.check.news('shop');
    // The pause alone would be a quarter of a second, and more.
    assert.ok(await bench.isAdmitted(0));
    assert.equal(bench.asked.length, 2);
  });
}

test('what keeps them waiting is said from the second time on, and its end; no failure admits anybody', async (t) => {
  const fails = (): never => {
    throw new ApiError(403, 'forbidden');
  };
  const bench = new Bench(t, [fails, fails, () => ({ items: [] }), () => list(policy('a', 1))]);
  bench.known = known(policy('a', 1));
  bench.check.look('shop');
  for (const asked of [1, 2, 3]) {
    while (bench.asked.length < asked) await bench.time.pass(5);
    assert.ok(!(await bench.isAdmitted(20)));
    bench.check.news(null);
  }
  assert.ok(await bench.isAdmitted());
  assert.deepEqual(bench.said, ['forbidden', 'the answer is no list', null]);
});

test('a pod that comes while a list is under way waits for the next', async (t) => {
  const answer = Promise.withResolvers<unknown>();
  const bench = new Bench(t, [() => answer.promise, () => list()]);
  bench.check.look('shop');
  const late = { ...WEB, key: podKey('shop', 'late'), name: 'late' };
  bench.waiting = [WEB, late];
  bench.check.look('shop');
  answer.resolve(list());
  assert.ok(await bench.isAdmitted());
  assert.deepEqual(bench.admitted, [[WEB], [late]]);
});

test('policies that change all the time have them listed now and then, and not at each change', async (t) => {
  const bench = new Bench(t, [() => list(policy('a', 9))]);
  bench.known = known(policy('a', 1));
  bench.check.look('shop');
  for (; bench.time.nowMs < 1000; await bench.time.pass(2)) bench.check.news('shop');
  // At once, after 0.1, 0.2 and 0.4 s more.
  assert.equal(bench.asked.length, 4, 'lists in a second');
  bench.known = known(policy('a', 9));
  bench.check.news('shop');
  assert.ok(await bench.isAdmitted());
});

test('a watch that says nothing, though lists are others all the time, is given up', async (t) => {
  const bench = new Bench(t, [() => list(policy('a', 9))]);
  bench.known = known(policy('a', 1));
  bench.check.look('shop');
  while (bench.stalled.length < 1) await bench.time.pass(5);
  assert.deepEqual([bench.stalled, bench.asked.length], [['NetworkPolicy'], 4]);
  // The server has news of the kind meanwhile: it is heard, and only late.
  while (bench.asked.length < 6) {
    bench.check.news(null);
    await bench.time.pass(50);
  }
  assert.equal(bench.stalled.length, 1);
});

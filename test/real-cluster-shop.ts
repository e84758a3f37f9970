// `make cluster-test`, its second part: the example shop on a real cluster, as kubectl applies it. Each of its pods keeps
// connections and tries new ones, allowed and denied, over whatever happens; between two looks nothing may be lost or opened.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it, type TestContext } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { killAgent, takeHooksOff } from '#test/support/cluster-nodes.ts';
import { type Counts, type Expected, Ledger } from '#test/support/shop-ledger.ts';
import { ALLOWED, DENIED, HALF, type ShopPod, tell } from '#test/support/shop-ways.ts';
import { processes } from '../tools/cluster/cgroups.ts';
import { agentReady, down, kubectl, NODES, up } from '../tools/cluster/cluster.ts';
import { until } from '../tools/cluster/commands.ts';
import { startApiServer } from '../tools/cluster/control-plane.ts';
import { Machine } from '../tools/cluster/machine.ts';
import { CONTROL, ROOT } from '../tools/cluster/places.ts';
import { SHOP_FOLDERS } from '../tools/cluster/shop-image.ts';

const SHOP = join(ROOT, 'examples/shop');
const OUTAGE_MS = 120_000;
const READY_LIMIT_MS = 90_000;
const PAYMENTS = 'backend/payments';
/** Where a node's next pods get their addresses, and more. */
const NEXT_ADDRESSES = 30;
const HALF_OPEN = [...ALLOWED, HALF];
const ledger = new Ledger();

/** Looks again, and holds all against what is expected; the new look. */
async function nothingLostOrOpened(t: TestContext, since: Counts, expected: Expected = {}): Promise<Counts> {
  const now = await ledger.look();
  const { findings, standing, answers, longestMs, opened, deniedTries } = ledger.audit(since, now, expected);
  assert.deepEqual(findings, []);
  assert.ok(standing > 0 && deniedTries > 0);
  const kept = `${standing} connections kept, 0 lost, ${answers} answers, the longest wait ${longestMs} ms`;
  t.diagnostic(`${kept}; ${opened} opened, 0 refused; ${deniedTries} denied tries, 0 passed`);
  return now;
}

async function applyFiles(...paths: readonly string[]): Promise<void> {
  await kubectl(['apply', ...paths.flatMap((path) => ['-f', path])]);
}

/** Lets recommendations in to the catalog, or takes it back, as the example has it. */
async function edit(isOpen: boolean): Promise<void> {
  if (!isOpen) return await applyFiles(join(SHOP, 'backend/policies.yaml'));
  const value = { podSelector: { matchLabels: { app: 'recommendations' } } };
  const change = JSON.stringify([{ op: 'add', path: '/spec/ingress/0/from/-', value }]);
  const name = 'cart-and-catalog-from-checkout';
  await kubectl(['-n', 'backend', 'patch', 'networkpolicy', name, '--type=json', '-p', change]);
}

function one(app: string): ShopPod {
  const [pod] = ledger.of(app);
  assert.ok(pod, app);
  return pod;
}

async function bringUp(): Promise<void> {
  assert.deepEqual(processes(), [], 'a cluster is up: make cluster-down');
  await up(() => undefined);
  await applyFiles(join(SHOP, 'namespaces.yaml'));
  const files = SHOP_FOLDERS.flatMap((folder) => readdirSync(folder).map((name) => join(folder, name)));
  await applyFiles(...files.filter((path) => !path.endsWith('/policies.yaml')));
  await shopRuns();
}

async function shopRuns(): Promise<void> {
  for (const namespace of ['frontend', 'backend', 'data', 'monitoring']) {
    for (const kind of ['deployments', 'statefulsets']) {
      const names = await kubectl(['-n', namespace, 'get', kind, '-o', 'name']);
      for (const name of names.split('\n').filter((each) => each !== ''))
        await kubectl(['-n', namespace, 'rollout', 'status', name, '--timeout=90s']);
    }
  }
}

/** All agents have their cluster, and say so. */
async function agentsAreReady(): Promise<void> {
  for (const name of NODES) await until(`the agent of ${name}`, READY_LIMIT_MS, () => agentReady(Machine.open(name)));
}

let last: Counts = new Map();

function policiesChange(): void {
  it('is open without policies: every way that they deny gets through', async () => {
    await ledger.follow([]);
    await ledger.settled({ allowed: [...ALLOWED, ...DENIED] });
  });

  it('is shut but for what its policies allow, once kubectl has applied them', async (t) => {
    await applyFiles(...SHOP_FOLDERS.map((folder) => join(folder, 'policies.yaml')));
    await ledger.settled();
    // Now, and not before: policies come one after the other, and a connection that some of them deny for a moment is cut.
    await ledger.follow(ALLOWED);
    const begun = await ledger.settled();
    last = await nothingLostOrOpened(t, begun);
  });

  it('opens and shuts the one way that a live edit is about, and touches no other', async (t) => {
    await edit(true);
    await ledger.settled({ allowed: HALF_OPEN });
    await ledger.follow(HALF_OPEN);
    await ledger.settled({ allowed: HALF_OPEN });
    await edit(false);
    const shut = await ledger.settled();
    last = await nothingLostOrOpened(t, last, { except: [HALF] });
    const { findings } = ledger.audit(shut, await ledger.settled(), { allowed: HALF_OPEN });
    assert.ok(
      findings.some((each) => each.endsWith('the connection stands still')),
      'the connection that was cut is seen',
    );
    assert.ok(findings.every((each) => each.startsWith('recommendations-')));
  });
}

function podsComeAndGo(): void {
  it('has a deleted pod anew on the other node, under its policy from its first packet on', async (t) => {
    const old = one(PAYMENTS);
    const blocks = await kubectl(['get', 'nodes', '-o', 'jsonpath={.items[*].spec.podCIDR}']);
    const next = blocks.split(' ').flatMap((block) => {
      const start = block.slice(0, block.lastIndexOf('.'));
      return Array.from({ length: NEXT_ADDRESSES }, (_, index) => `${start}.${index + 2}`);
    });
    const [web, checkout] = [one('frontend/web'), one('backend/checkout')];
    for (const asker of [web, checkout]) await tell(asker, ['try', ...next.flatMap((address) => [address, '8443'])]);
    await kubectl(['cordon', old.node]);
    await kubectl(['-n', 'backend', 'delete', 'pod', old.name]);
    await shopRuns();
    await kubectl(['uncordon', old.node]);
    const { findings } = ledger.audit(last, await ledger.look());
    assert.ok(
      findings.some((each) => each.includes(`to ${old.name}, `) && each.endsWith('the connection is lost')),
      'the connection to the pod that is gone is seen',
    );
    const aboutPayments = [...ALLOWED, ...DENIED].filter((way) => way.slice(0, 2).includes(PAYMENTS));
    await nothingLostOrOpened(t, last, { except: aboutPayments });
    await ledger.follow(ALLOWED);
    const anew = one(PAYMENTS);
    assert.notEqual(anew.node, old.node);
    assert.ok(anew.addresses.some((address) => next.includes(address)));
    last = await ledger.settled();
    const hasPassed = async (asker: ShopPod): Promise<boolean> => {
      const lines = (await tell(asker, ['report'])).split('\n');
      const about = lines.filter((line) => line.startsWith(`try ${anew.addresses[0]}:8443 `));
      assert.ok(about.length > 0);
      return about.some((line) => !line.includes('passed=0 refused=0'));
    };
    assert.deepEqual([await hasPassed(checkout), await hasPassed(web)], [true, false]);
  });
}

function agentsAndServerEnd(): void {
  it('goes on when an agent is killed, on each node', async (t) => {
    for (const node of NODES) {
      await killAgent(node);
      await agentsAreReady();
      last = await nothingLostOrOpened(t, last);
    }
  });

  it('goes on while the API server is away for two minutes, an agent killed meanwhile, and follows it again', async (t) => {
    const control = Machine.open(CONTROL);
    await control.kill('kube-apiserver');
    await assert.rejects(kubectl(['get', 'nodes']));
    await pause(OUTAGE_MS / 2);
    await killAgent('node-2');
    await pause(OUTAGE_MS / 2);
    await assert.rejects(kubectl(['get', 'nodes']));
    last = await nothingLostOrOpened(t, last);
    await startApiServer(control, kubectl);
    await agentsAreReady();
    await edit(true);
    await ledger.settled({ allowed: HALF_OPEN });
    await edit(false);
    await ledger.settled();
    last = await nothingLostOrOpened(t, last, { except: [HALF] });
  });
}

describe('the example shop on a real cluster (needs root)', () => {
  before(bringUp);
  after(down);
  policiesChange();
  podsComeAndGo();
  agentsAndServerEnd();

  it('is open once the hooks are off: every denied way gets through, and the ledger says so', async () => {
    for (const node of NODES) await takeHooksOff(node);
    const open = await ledger.settled({ allowed: [...ALLOWED, ...DENIED] });
    const { findings } = ledger.audit(last, open);
    for (const [from, to, port] of DENIED) {
      const [asker = '', asked = ''] = [from, to].map((app) => app.split('/')[1]);
      const seen = findings.filter((each) => each.startsWith(`${asker}-`) && each.includes(` to ${asked}-`));
      assert.ok(
        seen.some((each) => each.includes(`:${port}: opened `)),
        `${from} to ${to}`,
      );
    }
  });
});

// What can happen to an agent, one thing at a time: docs/operations.md has the list. What it enforced stays in force.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import fc from 'fast-check';
import { mountBpffs } from '#kernel/bpffs.ts';
import { type Policy, type PolicyKey, policyKey, type Rule, type RuleId } from '#policy/model.ts';
import type { World } from '#policy/world.ts';
import { buildFaults, StillBed, until } from '#test/support/kills/still-bed.ts';
import { arbitraryEdit, edited, firstWorld } from '#test/support/kills/world.ts';
import { needsRoot } from '#test/support/needs.ts';
import { samples } from '#test/support/property.ts';

function bedOf(t: TestContext, name: string): StillBed {
  mountBpffs();
  const bed = new StillBed(name);
  t.after(() => bed.destroy());
  return bed;
}

test('needs root: a second agent of a node is refused, names the first, and touches nothing', needsRoot, async (t) => {
  const still = bedOf(t, 'faults-second');
  const first = await still.start();
  const pins = readdirSync(still.directory, { recursive: true });
  const second = still.spawn();
  await until('its end', () => second.end !== null);
  assert.equal(second.end, 'exit code 1');
  assert.match(second.complaints.join(), new RegExp(`another process \\(${first.pid}, \\S+\\) runs the datapath`));
  assert.deepEqual(readdirSync(still.directory, { recursive: true }), pins);
  assert.equal((await first.client.status()).problem, null);
  assert.ok(still.enforces() && still.speaks());
});

test('needs root: after a reboot an agent starts beside its own old files', needsRoot, async (t) => {
  const still = bedOf(t, 'faults-reboot');
  await (await still.start()).kill();
  assert.ok(existsSync(join(still.folder, 'agent.sock')));
  still.reboot();
  await until('nothing is left of it', () => !still.denies());
  const life = await still.live();
  assert.ok(still.enforces());
  assert.equal((await life.client.status()).problem, null);
});

test('needs root: a clock of the day that jumps by years changes nothing', needsRoot, async (t) => {
  const still = bedOf(t, 'faults-clock');
  const env = { LD_PRELOAD: buildFaults(still.folder), MOAT_TEST_CLOCK: '1' };
  const looks = 'const seen = new Set(); const end = performance.now() + 250;';
  const program = `${looks} while (performance.now() < end) seen.add(new Date().getFullYear()); console.log(seen.size)`;
  const years = execFileSync(process.execPath, ['-e', program], { env: { ...process.env, ...env }, encoding: 'utf8' });
  assert.ok(Number(years) >= 2, 'the clock jumps');
  await (await still.start()).kill();
  const life = await still.live({}, { env });
  assert.ok(still.enforces() && still.speaks());
  let world = firstWorld();
  for (const edit of fc.sample(arbitraryEdit, { numRuns: 20, seed: 1 })) {
    world = edited(world, edit);
    still.cluster.publish(world);
    await life.reached(still.cluster.revision);
  }
  rmSync(still.directory, { recursive: true });
  await until('the pins are put back', () => existsSync(still.directory), 3000);
  const { drops, problem } = await life.client.status();
  assert.ok(problem === null && (drops.policy ?? 0) > 0);
  assert.ok(still.enforces() && still.speaks());
});

test('needs root: no room for its socket ends an agent, and what was in force stays', needsRoot, async (t) => {
  const still = bedOf(t, 'faults-disk');
  await (await still.start()).kill();
  const full = tmpfsOf(t, 'nr_inodes=1,mode=0700');
  const life = still.spawn({ agentFolder: full });
  await until('its end', () => life.end !== null);
  assert.equal(life.end, 'exit code 1');
  assert.match(life.complaints.join(), /ENOSPC/);
  assert.ok(still.enforces() && still.speaks());
  await still.live();
  assert.ok(still.enforces() && still.speaks());
});

test('needs root: a log on a full disk stops no agent, also when it has something to say', needsRoot, async (t) => {
  const still = bedOf(t, 'faults-log');
  await (await still.start()).kill();
  const full = tmpfsOf(t, 'size=4k');
  const log = join(full, 'log');
  writeFileSync(log, 'x'.repeat(4096));
  // A crowd that has no room in the tables is a failure, and the end of it mends that.
  const few = { address_map_a: 16, address_map_b: 16, prefix4_a: 16, prefix4_b: 16 };
  const sizes = { ct_map: 2048, ...few };
  const life = await still.live({ sizes }, { prefix: ['sh', '-c', `exec "$@" 2>> ${log}`, 'sh'] });
  const world = firstWorld();
  still.cluster.publish({ ...world, pods: new Map([...world.pods, ...crowd(world)]) });
  await until('the failure', async () => (await life.client.status()).problem !== null);
  assert.ok(still.denies());
  still.cluster.publish(world);
  await until('the mending', async () => (await life.client.status()).problem === null);
  assert.ok(still.enforces() && (await still.speaksAgain()));
  assert.equal(readFileSync(log, 'utf8').length, 4096);
});

test('needs root: an agent that the kernel kills for its memory leaves what was in force', needsRoot, async (t) => {
  const still = bedOf(t, 'faults-memory');
  await (await still.start()).kill();
  const group = memoryGroup(t, 16 * 1024 * 1024);
  const life = still.spawn({}, { prefix: ['sh', '-c', `echo $$ > ${group}/cgroup.procs && exec "$@"`, 'sh'] });
  await until('its end', () => life.end !== null);
  assert.equal(life.end, 'SIGKILL');
  assert.ok(still.enforces() && still.speaks());
  await still.live();
  assert.ok(still.enforces() && still.speaks());
});

test('needs root: an agent whose heap finds no more room ends, and leaves what was in force', needsRoot, async (t) => {
  const still = bedOf(t, 'faults-heap');
  const world = firstWorld();
  await (await still.start(world)).kill();
  const life = await still.live({}, { env: { NODE_OPTIONS: '--max-old-space-size=40' } });
  assert.ok(still.enforces() && still.speaks());
  still.cluster.publish({ ...world, policies: new Map([...world.policies, ...manyRules(world)]) });
  await until('its end', () => life.end !== null, 60_000);
  assert.equal(life.end, 'SIGABRT');
  assert.match(life.complaints.join(), /heap out of memory/);
  assert.ok(still.enforces() && still.speaks());
  still.cluster.publish(world);
  await still.live();
  assert.ok(still.enforces() && still.speaks());
});

/** So many rules that no small heap holds them. */
function manyRules({ policies }: World): Map<PolicyKey, Policy> {
  const [one] = policies.values();
  const rule = one?.ingress[0] ?? one?.egress[0];
  assert.ok(one !== undefined && rule !== undefined);
  const copies = Array.from({ length: 100 }, (_, at): Policy => {
    const key = policyKey('networkpolicy', 'many', `copy-${at}`);
    const egress = Array.from(
      { length: 1000 },
      (_, index): Rule => ({ ...rule, id: `${key}/egress/${index}` as RuleId }),
    );
    return { ...one, key, egress, ingress: [] };
  });
  return new Map(copies.map((copy) => [copy.key, copy]));
}

test('needs root: the hooks of a pod that goes without a word are forgotten', needsRoot, async (t) => {
  const still = bedOf(t, 'faults-gone');
  const life = await still.start();
  const world = edited(firstWorld(), { kind: 'pod', slot: 3, labels: {} });
  const pins = (): readonly string[] => readdirSync(still.directory).sort();
  const before = pins();
  const { problem } = await life.client.status();
  for (let turn = 0; turn < 2; turn++) {
    still.cluster.publish(world);
    const pod = still.bed.add(4);
    still.bed.raise(pod);
    await still.attach(life, pod);
    assert.equal(pins().length, before.length + 2);
    still.bed.remove(pod);
    await until('its interface is missed', async () => (await life.client.status()).problem !== problem);
    await pause(500);
    assert.ok((await life.client.status()).problem !== problem, 'the cluster still has it');
    still.cluster.publish(firstWorld());
    await until('it is forgotten', async () => (await life.client.status()).problem === problem);
    assert.deepEqual(pins(), before);
  }
  assert.ok(still.enforces() && still.speaks());
});

const ERRORS = [constants.errno.ENOMEM, constants.errno.E2BIG, constants.errno.EPERM, constants.errno.ENOSPC] as const;
/** An agent's start makes about as many calls; those after them come while it serves. */
const CALLS = 700;
const FAULTS = 8;

test(
  'needs root: whichever call of bpf(2) fails, nothing opens, and the next agent has it all',
  needsRoot,
  async (t) => {
    const still = bedOf(t, 'faults-bpf');
    const library = buildFaults(still.folder);
    await (await still.start()).kill();
    const fault = fc.tuple(fc.integer({ min: 1, max: CALLS }), fc.constantFrom(...ERRORS));
    for (const [call, error] of samples(t, fault, FAULTS)) {
      const env = { LD_PRELOAD: library, MOAT_TEST_BPF: `${call}:${error}` };
      const life = still.spawn({}, { env });
      const served = await still.bringUp(life).then(
        () => true,
        () => false,
      );
      t.diagnostic(`call ${call} fails with ${error}: ${served ? 'it serves' : (life.end ?? 'it lives')}`);
      assert.ok(still.denies(), `call ${call}, error ${error}`);
      if (life.end !== null) assert.ok(still.enforces() && still.speaks(), 'it ended, and what was in force stays');
      const ended = life.end !== null;
      await life.kill();
      assert.ok(still.denies());
      if (ended) continue;
      // Pods whose attachment failed come back as new ones, without their connections: the next fault meets a whole node.
      await (await still.live()).kill();
      still.reconnect();
    }
    await still.live();
    assert.ok(still.enforces() && (await still.speaksAgain()));
  },
);

/** A small file system. */
function tmpfsOf(t: TestContext, options: string): string {
  const path = mkdtempSync(join(tmpdir(), 'moat-full-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', path]);
  t.after(() => {
    execFileSync('umount', ['-l', path]);
    rmdirSync(path);
  });
  return path;
}

/** A control group for memory, of either version. */
function memoryGroup(t: TestContext, bytes: number): string {
  const v1 = '/sys/fs/cgroup/memory';
  const isV1 = existsSync(join(v1, 'memory.limit_in_bytes'));
  const group = join(isV1 ? v1 : '/sys/fs/cgroup', `moattest-${process.pid}`);
  mkdirSync(group);
  t.after(() => rmdirSync(group));
  if (!isV1 && !existsSync(join(group, 'memory.max'))) {
    writeFileSync('/sys/fs/cgroup/cgroup.subtree_control', '+memory');
  }
  writeFileSync(join(group, isV1 ? 'memory.limit_in_bytes' : 'memory.max'), String(bytes));
  return group;
}

/** Pods of another node, more than the tables of a test have room for. */
function crowd(world: ReturnType<typeof firstWorld>): ReturnType<typeof firstWorld>['pods'] {
  const [pod] = world.pods.values();
  assert.ok(pod);
  const made = Array.from({ length: 40 }, (_, index) => {
    const key = `${pod.key}-${index}` as typeof pod.key;
    const address = { family: 4 as const, words: [0x0a080001 + index] };
    return [key, { ...pod, key, name: `${pod.name}-${index}`, node: 'node-b', addresses: [address] }] as const;
  });
  return new Map(made);
}

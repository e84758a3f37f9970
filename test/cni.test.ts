// The CNI as a container runtime meets it: the real plugin, a real agent, real packets between the namespaces. Needs root.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import fc from 'fast-check';
import type { AddressKey } from '#net/address.ts';
import { Attachments } from '#network/attachments.ts';
import { ATTACH_MODES } from '#test/support/attach-modes.ts';
import { policyText } from '#test/support/cluster.ts';
import { CniBed } from '#test/support/cni-bed.ts';
import { needsRoot } from '#test/support/needs.ts';
import { samples } from '#test/support/property.ts';
import { accepted, conversation, type Talk, talks } from '#test/support/talk.ts';

const DB_FROM_WEB = policyText(
  'db',
  'podSelector: {matchLabels: {app: db}}\ningress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]',
);

describe('pods that the CNI plugin attaches (needs root)', needsRoot, () => {
  let bed: CniBed;
  let talk: Talk;
  const address: Record<string, readonly string[]> = {};

  before(async () => {
    bed = new CniBed('cni');
    bed.setPolicies(DB_FROM_WEB);
    bed.setPods([{ name: 'web' }, { name: 'db' }, { name: 'other' }]);
    await bed.listen();
    await bed.startAgent();
  });
  after(() => bed.destroy());

  const reaches = (from: string, family: 4 | 6): boolean => {
    const to = address.db?.find((text) => text.includes(':') === (family === 6)) ?? '';
    return accepted(bed.netns(from), bed.netns('db'), to);
  };

  it('have their policy in force when ADD has answered: who may connects, who may not does not', async () => {
    for (const name of ['web', 'db', 'other']) address[name] = await bed.add(`c-${name}`, bed.addNetns(name), name);
    assert.deepEqual(Object.values(address).flat().sort(), [
      ...['10.88.0.2', '10.88.0.3', '10.88.0.4', 'fd88::2', 'fd88::3', 'fd88::4'],
    ]);
    for (const family of [4, 6] as const) {
      assert.ok(reaches('web', family), `web, IPv${family}`);
      assert.ok(!reaches('other', family), `other, IPv${family}`);
    }
  });

  it('are told of in the shape of the version that is asked for', async () => {
    for (const cniVersion of ['0.3.1', '0.4.0', '1.0.0', '1.1.0']) {
      bed.addNetns(`v${cniVersion}`);
      const about = { container: `v${cniVersion}`, netns: bed.netns(`v${cniVersion}`), pod: 'other' };
      const { exit, output } = await bed.call({ command: 'ADD', ...about, config: { cniVersion } });
      assert.equal(exit, 0, JSON.stringify(output));
      assert.ok(output);
      assert.deepEqual(Object.keys(output), ['cniVersion', 'interfaces', 'ips', 'routes', 'dns']);
      assert.equal(output.cniVersion, cniVersion);
      const [ip] = output.ips as readonly Record<string, unknown>[];
      assert.equal(ip?.version, cniVersion < '1' ? '4' : undefined);
      assert.deepEqual([ip?.gateway, ip?.interface], ['169.254.1.1', 1]);
      const inside = (output.interfaces as readonly Record<string, unknown>[])[1];
      assert.deepEqual([inside?.name, inside?.sandbox], ['eth0', about.netns]);
      assert.deepEqual(await bed.call({ command: 'DEL', ...about, config: { cniVersion } }), { exit: 0, output: null });
    }
    // A sandbox of the same pod came and went: the first one has its name again.
    assert.ok(reaches('web', 4) && !reaches('other', 4));
  });

  it('are checked: as long as all is there, CHECK finds nothing', async () => {
    const about = { container: 'c-web', netns: bed.netns('web'), pod: 'web' };
    const ips = address.web?.map((text) => ({ address: `${text}/${text.includes(':') ? 128 : 32}` }));
    const check = (addresses: unknown): ReturnType<CniBed['call']> =>
      bed.call({ command: 'CHECK', ...about, config: { prevResult: { cniVersion: '1.1.0', ips: addresses } } });
    assert.deepEqual(await check(ips), { exit: 0, output: null });
    assert.equal((await check([{ address: '10.88.0.99/32' }])).output?.code, 101);
    bed.ip('web', 'address del fd88::2/128 dev eth0');
    assert.match(String((await check(ips)).output?.msg), /eth0 .* lacks fd88::2/);
    bed.ip('web', 'address add fd88::2/128 dev eth0 nodad');
    const unknown = await bed.call({ command: 'CHECK', ...about, container: 'c-nobody' });
    assert.equal(unknown.output?.code, 3);
  });

  it('are judged at once, and keep their connections when their hooks become what nothing gets ahead of', async () => {
    const late = await bed.add('c-late', bed.addNetns('late'), 'other');
    if (ATTACH_MODES.length === 2) assert.ok(bed.hooks().includes('filter'), 'not yet');
    const through = conversation(bed.netns('web'), bed.netns('late'), late[0] ?? '');
    assert.ok(talks(through) && !reaches('late', 4));
    const last = ATTACH_MODES[0] === 'tcx' ? 'link' : 'filter';
    assert.ok(await bed.soon(() => bed.hooks().every((hook) => hook === last)));
    assert.ok(talks(through) && !reaches('late', 4));
    assert.equal((await bed.call({ command: 'DEL', container: 'c-late' })).exit, 0);
  });

  it('keep their connections when the agent is killed, and the next agent judges them by itself', async () => {
    talk = conversation(bed.netns('web'), bed.netns('db'), address.db?.[0] ?? '');
    assert.ok(talks(talk));
    await bed.killAgent();
    assert.ok(talks(talk), 'without an agent');
    assert.ok(!reaches('other', 4), 'without an agent');
    await bed.startAgent();
    assert.ok(talks(talk), 'with the next agent');
    assert.ok(reaches('web', 4) && !reaches('other', 4), 'with the next agent');
    bed.setPolicies(DB_FROM_WEB.replace('app: web', 'app: other'));
    assert.ok(await bed.soon(() => reaches('other', 4) && !reaches('web', 4)), 'a change reaches the taken-over pods');
    bed.setPolicies(DB_FROM_WEB);
    assert.ok(await bed.soon(() => !reaches('other', 4) && reaches('web', 4)));
  });

  it('can end while the agent is away: it makes it good when it is back', async () => {
    await bed.killAgent();
    const about = { container: 'c-other', netns: bed.netns('other') };
    assert.equal((await bed.call({ command: 'ADD', ...about, pod: 'other' })).output?.code, 11);
    assert.equal((await bed.call({ command: 'CHECK', ...about, pod: 'other' })).output?.code, 11);
    assert.equal((await bed.call({ command: 'STATUS' })).output?.code, 50);
    assert.deepEqual(await bed.call({ command: 'DEL', ...about }), { exit: 0, output: null });
    assert.deepEqual(await bed.call({ command: 'DEL', ...about }), { exit: 0, output: null });
    assert.equal(bed.attachments().length, 3, 'nobody was there to remove it');
    await bed.startAgent();
    assert.ok(await bed.soon(() => bed.attachments().length === 2 && bed.spooled().length === 0));
    assert.equal(bed.links().length, 2);
  });

  it('a late DEL of an old sandbox leaves the pod alone that has the name now', async () => {
    const late = await bed.add('c-db-2', bed.addNetns('db-2'), 'db');
    assert.deepEqual(await bed.call({ command: 'DEL', container: 'c-db' }), { exit: 0, output: null });
    assert.deepEqual(await bed.call({ command: 'DEL', container: 'c-db' }), { exit: 0, output: null });
    assert.ok(accepted(bed.netns('web'), bed.netns('db-2'), late[0] ?? ''));
  });

  it('are collected: GC takes away what no runtime knows', async () => {
    const valid = [{ containerID: 'c-db-2', ifname: 'eth0' }];
    const gc = (list: unknown): ReturnType<CniBed['call']> =>
      bed.call({ command: 'GC', config: { 'cni.dev/valid-attachments': list } });
    assert.equal((await gc(undefined)).output?.code, 7);
    assert.equal((await gc([{ containerID: 'c-db-2' }])).output?.code, 7);
    assert.equal(bed.attachments().length, 2);
    assert.deepEqual(await gc(valid), { exit: 0, output: null });
    assert.deepEqual(bed.attachments(), ['c-db-2@eth0.json']);
    assert.equal(bed.links().length, 1);
  });

  it('end with the code of links where DEL fails, and another DEL begins again', async () => {
    await bed.add('c-stuck', bed.addNetns('stuck'), 'other');
    const file = join(bed.folder, 'cni/attachments/c-stuck@eth0.json');
    rmSync(file);
    mkdirSync(join(file, 'in-the-way'), { recursive: true });
    const { exit, output } = await bed.call({ command: 'DEL', container: 'c-stuck' });
    assert.deepEqual([exit, output?.code, output?.msg], [1, 100, "c-stuck@eth0 can't be removed"]);
    rmSync(file, { recursive: true });
    assert.deepEqual(await bed.call({ command: 'DEL', container: 'c-stuck' }), { exit: 0, output: null });
  });

  it('get through, with the hooks taken off: it is the hooks that deny', async () => {
    const other = await bed.add('c-other-2', bed.addNetns('other-2'), 'other');
    assert.ok(accepted(bed.netns('db-2'), bed.netns('other-2'), other[0] ?? ''));
    const [target = ''] = await bed.add('c-db-3', bed.addNetns('db-3'), 'db');
    assert.ok(!accepted(bed.netns('other-2'), bed.netns('db-3'), target));
    await bed.detachHooks();
    assert.ok(accepted(bed.netns('other-2'), bed.netns('db-3'), target));
    for (const container of ['c-other-2', 'c-db-3'])
      assert.equal((await bed.call({ command: 'DEL', container })).exit, 0);
  });

  it('stay out, with a reason, where the pod is not known', async () => {
    const about = { container: 'c-x', netns: bed.addNetns('x') };
    const { exit, output } = await bed.call({ command: 'ADD', ...about, pod: 'nobody' });
    assert.deepEqual([exit, output?.code], [1, 11]);
    assert.match(String(output?.msg), /shop\/nobody .* not known yet/);
    assert.deepEqual(bed.attachments(), ['c-db-2@eth0.json']);
    assert.equal(bed.links().length, 1);
  });
});

test(
  'killed at any moment of a storm of ADDs and DELs, the agent leaks neither addresses nor links (needs root)',
  needsRoot,
  async (t) => {
    const bed = new CniBed('cnikill', ['10.89.0.0/27', 'fd89::/64']);
    t.after(() => bed.destroy());
    const names = Array.from({ length: 12 }, (_, index) => `p${index}`);
    for (const name of names) bed.addNetns(name);
    bed.setPods(names.map((name) => ({ name })));
    await bed.listen();
    for (const [round, waitMs] of [...samples(t, fc.integer({ min: 5, max: 900 }), 4)].entries()) {
      await bed.startAgent();
      // What each runtime does: it makes a sandbox, and ends it whatever came of that.
      const lives = names.map(async (name) => {
        const container = `${name}r${round}`;
        const added = await bed.call({ command: 'ADD', container, netns: bed.netns(name), pod: name });
        const code = added.output?.code;
        assert.ok(added.exit === 0 || code === 11 || code === 100, JSON.stringify(added.output));
        assert.deepEqual(await bed.call({ command: 'DEL', container, netns: bed.netns(name) }), {
          exit: 0,
          output: null,
        });
      });
      await pause(waitMs);
      await bed.killAgent();
      await Promise.all(lives);
    }
    // An ADD that was never answered, of a runtime that ended, too: nobody will ask for its end.
    const half = { containerId: 'c-half', ifname: 'eth0', netns: bed.netns('p0'), hostInterface: 'moathalf', mac: '' };
    const pod = { namespace: 'shop', name: 'p0', uid: '' };
    bed.ip('node', 'link add moathalf type veth peer name moathalfway');
    const left = new Attachments(join(bed.folder, 'cni/attachments'));
    left.put({ ...half, pod, addresses: ['10.89.0.30' as AddressKey], sequence: 1, isDone: false });
    await bed.startAgent();
    assert.ok(await bed.soon(() => bed.spooled().length === 0 && bed.attachments().length === 0));
    assert.deepEqual([bed.links(), bed.hooks()], [[], []]);
    // All of the block can be given out again.
    const given = new Set<string>();
    for (let index = 0; index < 29; index++) {
      const name = names[index % names.length] ?? '';
      const [address = ''] = await bed.add(`all${index}`, bed.addNetns(`all${index}`), name);
      given.add(address);
    }
    assert.equal(given.size, 29);
    const full = await bed.call({ command: 'STATUS' });
    assert.deepEqual([full.output?.code, full.output?.msg], [50, 'no address is left: 58 are in use']);
  },
);

test(
  'what can’t be undone keeps its address, and nobody else from being attached (needs root)',
  needsRoot,
  async (t) => {
    const bed = new CniBed('cnistuck', ['10.89.0.0/27']);
    t.after(() => bed.destroy());
    bed.addNetns('p0');
    bed.setPods([{ name: 'p0' }]);
    await bed.listen();
    // Nobody can remove this interface.
    const half = { containerId: 'c-half', ifname: 'eth0', netns: bed.netns('p0'), hostInterface: 'lo', mac: '' };
    const pod = { namespace: 'shop', name: 'p0', uid: '' };
    const left = new Attachments(join(bed.folder, 'cni/attachments'));
    left.put({ ...half, pod, addresses: ['10.89.0.2' as AddressKey], sequence: 1, isDone: false });
    await bed.startAgent();
    assert.deepEqual(await bed.add('c-p0', bed.netns('p0'), 'p0'), ['10.89.0.3']);
    assert.deepEqual(bed.attachments(), ['c-half@eth0.json', 'c-p0@eth0.json']);
  },
);

test(
  'on a full disk a pod is not attached, and holds nothing; with room again it is, and who is attached can go (needs root)',
  needsRoot,
  async (t) => {
    const bed = new CniBed('cnifull', ['10.89.0.0/27']);
    const folder = join(bed.folder, 'cni');
    t.after(async () => {
      await bed.killAgent();
      execFileSync('umount', ['-l', folder]);
      await bed.destroy();
    });
    for (const name of ['p0', 'p1']) bed.addNetns(name);
    bed.setPods([{ name: 'p0' }, { name: 'p1' }]);
    await bed.listen();
    mkdirSync(folder, { mode: 0o700 });
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k,mode=0700', 'tmpfs', folder]);
    await bed.startAgent();
    assert.deepEqual(await bed.add('c-p0', bed.netns('p0'), 'p0'), ['10.89.0.2']);
    const filler = join(folder, 'filler');
    assert.throws(() => writeFileSync(filler, Buffer.alloc(1 << 17)), { code: 'ENOSPC' });
    const [hooks, links] = [bed.hooks(), bed.links()];
    const refused = await bed.call({ command: 'ADD', container: 'c-p1', netns: bed.netns('p1'), pod: 'p1' });
    assert.deepEqual([refused.exit, refused.output?.code], [1, 5]);
    assert.match(String(refused.output?.details), /ENOSPC/);
    assert.deepEqual([bed.attachments(), bed.hooks(), bed.links()], [['c-p0@eth0.json'], hooks, links]);
    // It needs no room to let go.
    assert.equal((await bed.call({ command: 'DEL', container: 'c-p0', netns: bed.netns('p0') })).exit, 0);
    rmSync(filler);
    assert.deepEqual(await bed.add('c-p1', bed.netns('p1'), 'p1'), ['10.89.0.3']);
    assert.deepEqual(bed.attachments(), ['c-p1@eth0.json']);
  },
);

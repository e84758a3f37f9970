// Pods that ran before Moat came: they get their policy without being started again, and keep what they have open, where
// policy allows it. The reference bridge plugin makes their links; their cgroups are as a kubelet makes them. Needs root.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { BRIDGE, ChainBed } from '#test/support/chain-bed.ts';
import { policyText } from '#test/support/cluster.ts';
import { needsPlugins } from '#test/support/needs.ts';
import { PodProcesses } from '#test/support/pod-processes.ts';
import { accepted, conversation, type Talk, talks } from '#test/support/talk.ts';

// Who opened a connection that is older than the hooks nobody knows: cut is what neither end might have opened.
const POLICIES = `${policyText(
  'db',
  'podSelector: {matchExpressions: [{key: app, operator: In, values: [db, late]}]}\ningress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]',
)}
---
${policyText('other', 'podSelector: {matchLabels: {app: other}}\ningress: []')}`;
const UIDS: Readonly<Record<string, string>> = {
  web: '5e1f9b0a-3c1d-4a57-9d43-0c7a1b2c3d01',
  db: '5e1f9b0a-3c1d-4a57-9d43-0c7a1b2c3d02',
  other: '5e1f9b0a-3c1d-4a57-9d43-0c7a1b2c3d03',
  // As of a static pod.
  late: '5e1f9b0a3c1d4a579d430c7a1b2c3d04',
  ghost: '5e1f9b0a-3c1d-4a57-9d43-0c7a1b2c3d05',
};

describe('pods that ran before the agent (needs root)', needsPlugins, () => {
  let bed: ChainBed;
  let processes: PodProcesses;
  const addresses: Record<string, readonly string[]> = { ghost: ['10.88.0.200'] };
  const talk: Record<string, Talk> = {};

  /** As a runtime does that knows nothing of Moat. */
  const run = (name: string): void => {
    const ips = bed.addFirst(name).ips as readonly { readonly address: string }[];
    addresses[name] = ips.map(({ address }) => address.split('/')[0] ?? '');
    processes.start(UIDS[name] ?? '', bed.netns(name));
  };
  const tell = (...names: readonly string[]): void =>
    bed.setPods(names.map((name) => ({ name, uid: UIDS[name] ?? '', addresses: addresses[name] ?? [] })));
  const target = (name: string, family: 4 | 6 = 4): string =>
    addresses[name]?.find((text) => text.includes(':') === (family === 6)) ?? '';
  const reaches = (from: string, to: string, family: 4 | 6 = 4): boolean =>
    accepted(bed.netns(from), bed.netns(to), target(to, family));
  const open = (from: string, family: 4 | 6 = 4): Talk =>
    conversation(bed.netns(from), bed.netns('db'), target('db', family));
  const problem = async (): Promise<string | null> => {
    const client = await bed.client();
    const { problem: found, ready } = await client.status();
    client.close();
    // One pod that can't be adopted would stop every rolling update at this node.
    assert.ok(ready, String(found));
    return found;
  };

  before(async () => {
    // The node's block is that of the bridge, as with Flannel.
    bed = new ChainBed('adopt', BRIDGE);
    processes = new PodProcesses(bed.prefix);
    for (const name of ['web', 'db', 'other']) run(name);
    bed.setPolicies(POLICIES);
    tell('web', 'db', 'other');
    await bed.listen();
    Object.assign(talk, { allowed: open('web'), resting: open('web'), allowed6: open('web', 6) });
    Object.assign(talk, { denied: open('other'), denied6: open('other', 6) });
    for (const each of Object.values(talk)) assert.ok(talks(each));
    await bed.startAgent();
  });
  after(async () => {
    await processes.end();
    await bed.destroy();
  });

  const goesOn = (name: string): boolean => talks(talk[name] as Talk);

  it('have hooks once the agent serves; what is open and allowed goes on, what is denied is cut, old or new', async () => {
    assert.deepEqual(bed.attachments(), ['db', 'other', 'web'].map((name) => `${UIDS[name]}@eth0.json`).sort());
    assert.deepEqual([goesOn('allowed'), goesOn('allowed6')], [true, true]);
    assert.deepEqual([goesOn('denied'), goesOn('denied6')], [false, false]);
    for (const family of [4, 6] as const) {
      assert.deepEqual([reaches('web', 'db', family), reaches('other', 'db', family)], [true, false]);
    }
    assert.ok(reaches('node', 'db') && reaches('other', 'web'));
    assert.equal(await problem(), null);
  });

  it('go on when the agent is killed, and so does what has rested since before Moat came', async () => {
    await bed.killAgent();
    assert.ok(goesOn('allowed') && !reaches('other', 'db'));
    await bed.startAgent();
    assert.ok(goesOn('allowed') && goesOn('resting'));
    assert.ok(reaches('web', 'db') && !reaches('other', 'db'));
  });

  it('are named where they can’t be found', async () => {
    tell('web', 'db', 'other', 'ghost');
    assert.ok(await bed.soon(async () => (await problem()) !== null));
    assert.match(String(await problem()), /^shop\/ghost runs without policy: no process of it was found/);
    tell('web', 'db', 'other');
    assert.ok(await bed.soon(async () => (await problem()) === null));
  });

  it('are found later, too, where somebody attached them and did not ask Moat', async () => {
    run('late');
    assert.ok(reaches('other', 'late'), 'nobody knows of it yet');
    const said: string[] = [];
    const listener = await bed.client(undefined, (message) => void said.push(message));
    await listener.subscribe();
    tell('web', 'db', 'other', 'late');
    assert.ok(await bed.soon(() => bed.attachments().length === 4 && !reaches('other', 'late')));
    assert.ok(reaches('web', 'late'));
    assert.ok(await bed.soon(() => said.length > 0));
    listener.close();
    assert.match(said.join('\n'), /^shop\/late was attached without asking Moat, .* still name moat-cni\?$/);
  });

  it('are nobody’s to collect, and end with their links', async () => {
    assert.equal((await bed.call({ command: 'GC', config: { 'cni.dev/valid-attachments': [] } })).exit, 0);
    assert.equal(bed.attachments().length, 4);
    bed.callFirst('DEL', 'late', { cniVersion: '1.0.0', ips: [] });
    assert.ok(await bed.soon(() => bed.attachments().length === 3));
    assert.equal(await problem(), null, 'the API has it yet');
  });

  it('are found again in another sandbox that was made without asking Moat', async () => {
    const ips = bed.addFirst('late').ips as readonly { readonly address: string }[];
    addresses.late = ips.map(({ address }) => address.split('/')[0] ?? '');
    assert.ok(reaches('other', 'late'), 'nobody has found it yet');
    tell('web', 'db', 'other', 'late');
    assert.ok(await bed.soon(() => bed.attachments().length === 4 && !reaches('other', 'late')));
    assert.ok(reaches('web', 'late'));
    assert.equal(await problem(), null);
  });

  it('keep their link: a pod that has another’s uid, as a static pod’s stand-in says one, gets nothing', async () => {
    const before = bed.attachments();
    addresses.thief = ['10.88.0.201'];
    bed.setPods([
      ...['web', 'db', 'other', 'late'].map((name) => ({
        name,
        uid: UIDS[name] ?? '',
        addresses: addresses[name] ?? [],
      })),
      { name: 'thief', uid: UIDS.db ?? '', addresses: addresses.thief },
    ]);
    assert.ok(await bed.soon(async () => (await problem()) !== null));
    assert.match(
      String(await problem()),
      /^shop\/thief runs without policy: its interface veth\w+ is that of shop\/db/,
    );
    assert.deepEqual(bed.attachments(), before);
    assert.ok(reaches('web', 'db') && !reaches('other', 'db'));
    tell('web', 'db', 'other', 'late');
    assert.ok(await bed.soon(async () => (await problem()) === null));
  });

  it('get through, with the hooks taken off: it is the hooks that deny', async () => {
    await bed.detachHooks('veth');
    assert.ok(reaches('other', 'db'));
  });
});

// Both halves as one: a real API server, `moat agent` as a user starts it, the real CNI plugin as a container runtime calls it,
// and real packets between the pods. Needs root.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { ApiBed, egressTo, errorOf, ingressFrom } from './support/api-bed.ts';
import { needsApiServer, needsRoot } from './support/needs.ts';
import { allAccepted, conversation, type Talk, type Try, talks } from './support/talk.ts';

const MIRROR = 'kubernetes.io/config.mirror';

describe('pods of an API server that the CNI plugin attaches (needs root)', {
  skip: needsRoot.skip || needsApiServer.skip,
}, () => {
  let bed: ApiBed;
  let talk: Talk;
  /** Of pods by the name of their namespace here. */
  const addresses = new Map<string, readonly string[]>();

  before(async () => {
    bed = await ApiBed.start('api');
    await bed.makePolicy('db', ingressFrom('db', 'web'));
    await bed.makePolicy('quiet', egressTo('quiet', 'other'));
    await bed.startAgent();
  });
  after(() => bed?.destroy());

  /** Which of `FROM TO` connect, while these should; one that does so over one family alone is an error. */
  const passing = async (pairs: readonly string[], wanted: readonly string[]): Promise<string> => {
    const tries = pairs.flatMap((pair): readonly (Try & { readonly pair: string; readonly wanted: boolean })[] => {
      const [from = '', to = ''] = pair.split(' ');
      const targets = addresses.get(to) ?? [];
      assert.equal(targets.length, 2, to);
      const ends = { from: bed.node.netns(from), to: bed.node.netns(to) };
      return targets.map((target) => ({ ...ends, pair, target, wanted: wanted.includes(pair) }));
    });
    const verdicts = await allAccepted(tries);
    const passed = pairs.filter((pair) => {
      const own = new Set(verdicts.filter((_, index) => tries[index]?.pair === pair));
      assert.equal(own.size, 1, `${pair}: both families alike`);
      return own.has(true);
    });
    return passed.join();
  };
  /** Of these pairs just the others connect. */
  const pass = async (pairs: readonly string[], wanted: readonly string[], why?: string): Promise<void> => {
    assert.equal(await passing(pairs, wanted), wanted.join(), why);
  };
  const soon = async (pairs: readonly string[], wanted: readonly string[]): Promise<void> => {
    let found = '';
    const holds = async (): Promise<boolean> => {
      // The families of a pair may change one after the other.
      found = await passing(pairs, wanted).catch(String);
      return found === wanted.join();
    };
    assert.ok(await bed.node.soon(holds), `${found}, and not ${wanted}`);
  };
  /** What there is of attachments: on disk, and as links. */
  const attached = (): readonly number[] => [bed.node.attachments().length, bed.node.links().length];

  const ALL = ['web db', 'other db', 'quiet web', 'quiet other', 'other web'];
  const ALLOWED = ['web db', 'quiet other', 'other web'];

  it('have their policy in force, both ways, when ADD has answered, though no status tells their addresses', async () => {
    for (const name of ['web', 'db', 'other', 'quiet']) addresses.set(name, await bed.run(name));
    assert.deepEqual(addresses.get('quiet'), ['10.90.0.5', 'fd90::5']);
    assert.equal(await bed.addressesOf('db'), undefined);
    await pass(ALL, ALLOWED);
    talk = conversation(bed.node.netns('web'), bed.node.netns('db'), addresses.get('db')?.[0] ?? '');
  });

  it('stay as they are when their status comes, whether it is right or not', async () => {
    for (const name of ['web', 'db', 'quiet']) await bed.known(() => bed.setAddresses(name, addresses.get(name) ?? []));
    // The addresses of a pod that is let in: whoever believed it would let this one in, too.
    await bed.known(() => bed.setAddresses('other', addresses.get('web') ?? []));
    await pass(ALL, ALLOWED);
    assert.ok(talks(talk));
    const client = await bed.node.client();
    assert.equal((await client.status()).endpoints, 8);
    client.close();
  });

  it('are judged by a policy as it is changed in the API', async () => {
    await bed.changePolicy('db', ingressFrom('db', 'other'));
    await soon(['web db', 'other db'], ['other db']);
    await bed.changePolicy('db', ingressFrom('db', 'web'));
    await soon(['web db', 'other db'], ['web db']);
    assert.ok(talks(talk));
  });

  it('know pods of other nodes by the addresses that the API tells', async () => {
    addresses.set('far', bed.addFar('far', 7));
    await bed.makePod('far', { node: 'node-b' });
    await bed.makePolicy('far', ingressFrom('other', 'far'));
    await soon(['web other', 'far other'], []);
    await bed.setAddresses('far', addresses.get('far') ?? []);
    await soon(['web other', 'far other'], ['far other']);
    await bed.deletePolicy('far');
    await soon(['web other', 'far other'], ['web other', 'far other']);
  });

  it('keep their connections when the agent is killed, stay closed to others, and have what changed meanwhile then', async () => {
    await bed.node.killAgent();
    await pass(ALL, ALLOWED);
    assert.ok(talks(talk), 'without an agent');
    await bed.makePolicy('web', ingressFrom('web', null));
    assert.equal(errorOf(await bed.call('web', 'any', 'c-new')).code, 11);
    await pass(['other web'], ['other web'], 'nobody was there to bring it into force');
    await bed.startAgent();
    await soon(['other web', 'web db', 'other db'], ['web db']);
    assert.ok(talks(talk), 'with the next agent');
    await bed.deletePolicy('web');
    await soon(['other web'], ['other web']);
  });

  it('are known by their uid: one of before, none, and one that the API has for a static pod are refused', async () => {
    const before = await bed.uidOf('web');
    await bed.deletePod('web');
    await soon(['web db', 'other web'], []);
    const now = await bed.makePod('web', { app: 'other' });
    const hash = '0123456789abcdef0123456789abcdef';
    const mirror = await bed.makePod('static', { app: 'web', annotations: { [MIRROR]: hash } });
    assert.notEqual(now, before);
    for (const name of ['web-2', 'static', 'x1', 'x2', 'x3', 'x4']) bed.node.addNetns(name);
    const add = (netns: string, pod: string, uid: string): ReturnType<typeof bed.node.call> =>
      bed.node.call({ command: 'ADD', container: `c-${netns}`, netns: bed.node.netns(netns), pod, uid });
    const refused = await Promise.all([
      add('x1', 'web', before),
      add('x2', 'web', ''),
      add('x3', 'static', mirror),
      add('x4', 'nobody', now),
    ]);
    for (const result of refused) assert.equal(errorOf(result).code, 11);
    assert.deepEqual(attached(), [4, 4]);

    // The sandbox of before is there still.
    addresses.set('web-2', await bed.node.add('c-web-2', bed.node.netns('web-2'), 'web', now));
    addresses.set('static', await bed.node.add('c-static', bed.node.netns('static'), 'static', hash));
    const pairs = ['web db', 'web-2 db', 'static db', 'web-2 static', 'other web'];
    await pass(pairs, ['static db', 'web-2 static']);
    assert.deepEqual(await bed.node.call({ command: 'DEL', container: 'c-web' }), { exit: 0, output: null });
    await pass(pairs.slice(1, 4), ['static db', 'web-2 static']);
    assert.deepEqual(attached(), [5, 5]);
  });

  it('are attached without the API server where it has told of them, and refused where it has not', async () => {
    await bed.known(() => bed.makePod('late', { app: 'web' }));
    const uid = await bed.uidOf('late');
    for (const name of ['late', 'nobody']) bed.node.addNetns(name);
    talk = conversation(bed.node.netns('static'), bed.node.netns('db'), addresses.get('db')?.[0] ?? '');
    await bed.plane.killApiServer();
    const nobody = bed.call('nobody', uid);
    addresses.set('late', await bed.node.add('c-late', bed.node.netns('late'), 'late', uid));
    const pairs = ['late db', 'other db', 'static db', 'other late'];
    await pass(pairs, ['late db', 'static db', 'other late']);
    assert.equal(errorOf(await nobody).code, 11);
    assert.deepEqual(attached(), [6, 6]);

    await bed.node.killAgent();
    bed.spawnAgent();
    assert.ok(await bed.node.soon(async () => /whole cluster/.test(errorOf(await bed.call('nobody', uid)).text)));
    await pass(pairs, ['late db', 'static db', 'other late'], 'an agent that knows nothing changes nothing');
    assert.ok(talks(talk));

    await bed.plane.startApiServer();
    await bed.node.serves(bed.node.agent);
    assert.ok(talks(talk));
    addresses.set('back', await bed.run('back'));
    await pass([...pairs, 'back db', 'back late'], ['late db', 'static db', 'other late', 'back late']);
  });

  it('wait for the policies that were there before them, however late these are watched', async () => {
    // The watch of all namespaces, and the list after it is given up; not the list of one.
    bed.gate.keep('/v1/networkpolicies?');
    await bed.makePolicy('shut', ingressFrom('shut', 'web'));
    bed.node.addNetns('shut');
    const uid = await bed.makePod('shut');
    const { code, text } = errorOf(await bed.call('shut', uid));
    assert.equal(code, 11);
    assert.match(text, /new pods of shop wait for its policies: .*is not what the API server lists/);
    const before = attached();
    const second = bed.node.add('c-shut', bed.node.netns('shut'), 'shut', uid);
    await pause(300);
    bed.gate.release();
    addresses.set('shut', await second);
    await pass(['other shut', 'late shut'], ['late shut']);
    assert.deepEqual(
      attached(),
      before.map((count) => count + 1),
    );
  });

  it('need not wait for a watch that says nothing: lists find that out, and it is listed anew', async () => {
    bed.gate.keep('/v1/networkpolicies?watch=');
    await bed.makePolicy('mute', ingressFrom('mute', 'web'));
    addresses.set('mute', await bed.run('mute'));
    await pass(['other mute', 'late mute'], ['late mute']);
    bed.gate.release();
  });

  it('get through, with the hooks taken off: it is the hooks that deny', async () => {
    await pass(['other shut', 'other db'], []);
    await bed.node.detachHooks();
    await pass(['other shut', 'other db'], ['other shut', 'other db']);
    for (const container of bed.node.attachments().map((file) => file.split('@')[0] ?? '')) {
      assert.deepEqual(await bed.node.call({ command: 'DEL', container }), { exit: 0, output: null });
    }
    assert.deepEqual(attached(), [0, 0]);
  });
});

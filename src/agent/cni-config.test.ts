// The runtime's network configuration is watched: whoever takes new pods away from Moat is noticed at once, and another CNI's
// own configuration is followed, and never written to.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import type { EventNote } from '#cluster/kubernetes/event-note.ts';
import { CniConfig } from './cni-config.ts';

const PATHS = { socket: '/run/moat/moat/agent-a.sock', spool: '/run/moat/moat/cni/spool' };
const FLANNEL = {
  ...{ name: 'cbr0', cniVersion: '0.3.1' },
  plugins: [
    { type: 'flannel', delegate: { hairpinMode: true, isDefaultGateway: true } },
    { type: 'portmap', capabilities: { portMappings: true } },
  ],
};
/** What is noticed, and not found by the look that comes every ten seconds. */
const AT_ONCE_MS = 3000;

let folder = '';
let number = 0;
let own = '';
let said: string[] = [];
let notes: EventNote[] = [];
let config: CniConfig;

/** Looks until it is so; false where the time is over. */
async function soon(isSo: () => boolean): Promise<boolean> {
  for (const end = performance.now() + AT_ONCE_MS; performance.now() < end; await pause(5)) if (isSo()) return true;
  return isSo();
}

const path = (name: string): string => join(own, 'net.d', name);
const start = (behind?: string): void => {
  const places = { pluginFolder: join(own, 'bin'), config: path('05-moat.conflist'), behind };
  const tell = (message: string): void => void said.push(message.replaceAll(join(own, 'net.d/'), ''));
  config = new CniConfig({ node: 'node-a', places, paths: PATHS, tell, note: (each) => void notes.push(each) });
  config.install();
  said = said.filter((each) => !each.startsWith('hostPorts'));
};
const becomes = async (problem: RegExp | null): Promise<void> => {
  const matches = (): boolean => (problem === null ? config.problem === null : problem.test(config.problem ?? ''));
  assert.ok(await soon(matches), `${config.problem}`);
};
const plugins = (): readonly { readonly type: string }[] =>
  JSON.parse(readFileSync(path('05-moat.conflist'), 'utf8')).plugins;

describe('the network configuration of a node', () => {
  before(() => {
    execFileSync('sh', [join(import.meta.dirname, '../../tools/build-cni.sh')]);
    folder = mkdtempSync(join(tmpdir(), 'moat-cni-config-'));
  });
  after(() => rmSync(folder, { recursive: true }));
  beforeEach(() => {
    own = join(folder, String(number++));
    said = [];
    notes = [];
    for (const each of ['bin', 'net.d']) mkdirSync(join(own, each), { recursive: true });
  });
  afterEach(() => config.close());

  it('is well once it is in place, whatever comes behind it', async () => {
    writeFileSync(path('10-other.conflist'), JSON.stringify(FLANNEL));
    start();
    writeFileSync(path('99-last.conf'), '{}');
    writeFileSync(path('00-first.txt'), '{}');
    renameSync(path('99-last.conf'), path('98-last.conf'));
    assert.deepEqual([config.problem, config.changes, said, notes], [null, 0, [], []]);
  });

  it('that somebody rewrites, removes, or puts another one before is said at once, counted, and an Event; and left as it is', async () => {
    start();
    const text = readFileSync(path('05-moat.conflist'), 'utf8');
    writeFileSync(path('05-moat.conflist'), '{"plugins":[{"type":"bridge"}]}');
    await becomes(/05-moat.conflist was rewritten, and leaves Moat out/);
    assert.equal(readFileSync(path('05-moat.conflist'), 'utf8'), '{"plugins":[{"type":"bridge"}]}');
    writeFileSync(path('05-moat.conflist'), text);
    await becomes(null);
    rmSync(path('05-moat.conflist'));
    await becomes(/05-moat.conflist is gone/);
    writeFileSync(path('05-moat.conflist'), text.replace('moat/cni/spool', 'other/spool'));
    await becomes(/05-moat.conflist was rewritten: it is not what this agent put there/);
    writeFileSync(path('05-moat.conflist'), text);
    await becomes(null);
    writeFileSync(path('00-other.conf'), '{"type":"bridge"}');
    await becomes(/^00-other.conf comes before 05-moat.conflist in /);
    rmSync(path('00-other.conf'));
    await becomes(null);
    assert.equal(config.changes, 4);
    assert.deepEqual(
      notes.map(({ reason, regarding, text: note }) => [reason, regarding.kind, regarding.name, note.length > 0]),
      Array(4).fill(['NetworkConfigChanged', 'Node', 'node-a', true]),
    );
    assert.equal(said.filter((each) => each.endsWith('is in place: new pods are given to Moat')).length, 3);
  });

  it('lies well where somebody lists Moat in a configuration before it', async () => {
    start();
    writeFileSync(path('00-by-hand.conflist'), '{"plugins":[{"type":"bridge"},{"type":"moat-cni","chained":true}]}');
    writeFileSync(path('01-other.conf'), '{"type":"bridge"}');
    rmSync(path('00-by-hand.conflist'));
    await becomes(/^01-other.conf comes before/);
    assert.equal(config.changes, 1);
  });

  it('behind another CNI is that one’s, with Moat last, and follows it; nothing is written to it', async () => {
    writeFileSync(path('10-flannel.conflist'), JSON.stringify(FLANNEL));
    const before = statSync(path('10-flannel.conflist'));
    start(path('10-flannel.conflist'));
    const written = JSON.parse(readFileSync(path('05-moat.conflist'), 'utf8'));
    const last = { type: 'moat-cni', chained: true, ...PATHS };
    assert.deepEqual(written, { ...FLANNEL, plugins: [...FLANNEL.plugins, last] });
    assert.deepEqual([config.problem, config.changes], [null, 0]);
    assert.equal(statSync(path('10-flannel.conflist')).mtimeMs, before.mtimeMs);
    writeFileSync(
      path('10-flannel.conflist'),
      JSON.stringify({ ...FLANNEL, plugins: [{ type: 'flannel', mtu: 1400 }] }),
    );
    assert.ok(await soon(() => plugins().length === 2));
    assert.deepEqual(plugins(), [{ type: 'flannel', mtu: 1400 }, last]);
    assert.deepEqual([config.problem, config.changes], [null, 1]);
    assert.deepEqual(said, ['05-moat.conflist says what 10-flannel.conflist says now, with Moat behind it']);
    rmSync(path('10-flannel.conflist'));
    writeFileSync(path('20-later.conf'), '{}');
    assert.equal(plugins().length, 2, 'its pods still need it');
  });

  it('behind another CNI that comes later, or says what can’t be followed, is a problem until it is mended', async () => {
    start(path('10-flannel.conflist'));
    assert.match(config.problem ?? '', /10-flannel.conflist, behind which Moat's plugin is to come, is not there/);
    writeFileSync(path('10-flannel.conflist'), JSON.stringify(FLANNEL));
    await becomes(null);
    for (const [text, problem] of [
      ['{"name":"cbr0"', /is no CNI configuration that has a name and plugins/],
      [JSON.stringify({ ...FLANNEL, cniVersion: '0.2.0' }), /is of CNI 0.2.0, which moat-cni does not speak/],
      [JSON.stringify({ ...FLANNEL, plugins: [{ type: 'moat-cni' }] }), /names moat-cni itself/],
    ] as const) {
      writeFileSync(path('10-flannel.conflist'), text);
      await becomes(problem);
      assert.equal(plugins().length, 3, 'what was in place stays');
    }
    // As older CNIs have it.
    writeFileSync(path('10-flannel.conflist'), '{"name":"n","cniVersion":"0.4.0","type":"bridge","mtu":1400}');
    await becomes(null);
    assert.deepEqual(
      plugins().map(({ type }) => type),
      ['bridge', 'moat-cni'],
    );
  });
});

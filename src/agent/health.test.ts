// Health and readiness: which of them each thing that can be wrong is a matter of, and what the page says.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { WatchState } from '#cluster/follower.ts';
import { FACTS } from '#test/support/facts.ts';
import type { AgentFacts } from './agent-facts.ts';
import { checksPage, healthChecks, isWell, readyChecks } from './health.ts';

const UNKNOWN: WatchState = {
  ...{ kind: 'NetworkPolicy', problem: '403 Forbidden', restarts: 2, heardMs: 1 },
  objects: { understood: 1, partly: 0, refused: 0 },
};

test('an agent that follows all and enforces all is healthy and ready', () => {
  assert.ok(isWell(healthChecks(FACTS)));
  assert.ok(isWell(readyChecks(FACTS)));
});

/** What is wrong → whether it is healthy, what readiness names, and whether it is ready all the same. */
const CASES: readonly (readonly [string, Partial<AgentFacts>, boolean, readonly string[], 'ready'?])[] = [
  ['an apply failed', { failure: 'a map is full' }, false, ['datapath']],
  ['the datapath is not open', { isOpen: false }, false, ['datapath']],
  ['hooks are gone', { hooks: 'the hooks of shop/web were taken off' }, false, ['hooks']],
  ['nobody looks after the kernel', { sinceLookMs: 11_000 }, false, ['loop']],
  ['a kind is unknown', { watches: [UNKNOWN] }, true, ['watch-NetworkPolicy']],
  // Whoever makes pods, or policies, decides that: he could keep every rolling update from going on.
  ['a pod waits', { waits: ['new pods of shop wait for its policies: 500'] }, true, ['new-pods'], 'ready'],
  [
    'a pod runs without policy',
    { unreached: ['shop/web runs without policy: no process'] },
    true,
    ['all-pods'],
    'ready',
  ],
  ['nothing was listed', { known: 0, revision: 0 }, true, ['in-force']],
  ['a change waits', { known: 8, revision: 7 }, true, ['in-force']],
  ['a fresh start is under way', { known: 8, revision: 0 }, true, ['in-force']],
  // Whoever writes policies decides that: he could keep a node from being ready.
  ['a namespace has used up its share', { shortages: ['shop needs more'] }, true, []],
];

for (const [what, facts, healthy, named, ready = named.length === 0 ? 'ready' : 'not ready'] of CASES) {
  test(`${what}: ${healthy ? '' : 'neither healthy nor '}${ready}`, () => {
    const all = { ...FACTS, ...facts };
    const bad = readyChecks(all).filter(({ why }) => why !== null);
    assert.equal(isWell(healthChecks(all)), healthy);
    assert.equal(isWell(readyChecks(all)), ready === 'ready');
    assert.deepEqual(
      bad.map(({ name }) => name),
      named,
    );
  });
}

test('the page says what is wrong, and with verbose all that was looked at', () => {
  const checks = readyChecks({ ...FACTS, watches: [UNKNOWN] });
  const short = checksPage('readyz', checks, new URLSearchParams());
  assert.deepEqual([short.status, short.text], [503, '[-] watch-NetworkPolicy: 403 Forbidden\nreadyz: failed\n']);
  const long = checksPage('readyz', checks, new URLSearchParams('verbose')).text.split('\n');
  assert.deepEqual([long.length, long[0]], [checks.length + 2, '[+] datapath: ok']);
  const well = checksPage('readyz', readyChecks(FACTS), new URLSearchParams());
  assert.deepEqual([well.status, well.text], [200, 'readyz: ok\n']);
});

test('what is told fails nothing', () => {
  const { status, text } = checksPage(
    'readyz',
    readyChecks({ ...FACTS, waits: ['shop waits'] }),
    new URLSearchParams(),
  );
  assert.deepEqual([status, text], [200, '[!] new-pods: shop waits\nreadyz: ok\n']);
});

test('what a server said is one line', () => {
  const { text } = checksPage('readyz', [{ name: 'a', why: 'x\r\n[+] b: ok' }], new URLSearchParams());
  assert.equal(text, '[-] a: x [+] b: ok\nreadyz: failed\n');
});

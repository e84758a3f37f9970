// Text written to hurt, over a live agent's own socket: it is refused or cut off, others are answered meanwhile, and packets
// are judged as before.
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { mountBpffs } from '#kernel/bpffs.ts';
import { socketsOf } from '#test/support/kills/agent.ts';
import { StillBed } from '#test/support/kills/still-bed.ts';
import { needsRoot } from './support/needs.ts';

const LIMIT_MS = 10_000;
/** More than the agent has before, in kilobytes. */
const LIMIT_KB = 100 * 1024;
const MEGABYTE = 1 << 20;
const DEEP = 400_000;

const request = (rest: string): string => `{"id": 1, ${rest}}\n`;
const attach = (endpoint: string): string => request(`"method": "attach", "endpoints": [${endpoint}]`);
const endpoint = (rest: string): string =>
  `{"pod": "test/x", "interfaceIndex": 7, "mac": "02:00:00:00:00:01", "addresses": [], ${rest}}`;
const nested = `${'['.repeat(DEEP)}${']'.repeat(DEEP)}`;

/** What is written, and what comes back before the end: a refusal that says so, or nothing. */
const TEXTS: readonly (readonly [what: string, text: string, answer: RegExp | null])[] = [
  ['a line without an end', 'x'.repeat(8 * MEGABYTE), null],
  ['a request without an end', `{"id": 1, "method": "${'x'.repeat(8 * MEGABYTE)}`, null],
  ['lists in lists', `${nested}\n`, null],
  ['lists in lists where endpoints belong', attach(nested), /endpoints\[0\].*is expected/],
  ['lists in lists where text belongs', attach(endpoint(`"mac": ${nested}`)), /mac is a list, and text is expected/],
  ['numbers where text belongs', attach(endpoint('"pod": 1e400')), /pod is null, and text is expected/],
  ['a huge number', attach(endpoint('"interfaceIndex": 1e300')), /interfaceIndex is 1e\+300, and the index of/],
  [
    'a number of a million digits',
    attach(endpoint(`"interfaceIndex": ${'9'.repeat(900_000)}`)),
    /interfaceIndex is null/,
  ],
  ['an index below 0', request('"method": "detach", "interfaces": [-1]'), /interfaces\[0\] is -1/],
  ['100 000 interfaces', request(`"method": "detach", "interfaces": [${'7,'.repeat(100_000)}7]`), /at most 4096/],
  ['an address of a megabyte', attach(endpoint(`"addresses": ["${'1'.repeat(900_000)}"]`)), /is not an address/],
  ['a MAC of a megabyte', attach(endpoint(`"mac": "${':0'.repeat(450_000)}"`)), /six bytes/],
  ['inherited names', request('"method": "__proto__", "__proto__": {"method": "status"}'), /method is .*__proto__/],
  ['no id', '{"method": "status"}\n', null],
  ['an id that is no number', '{"id": {}, "method": "status"}\n', null],
  ['bytes that are no text', '\0\ufffd\n', null],
];

/** Writes a text, and returns what came back until the answer that `wanted` takes, or the end. */
async function say(path: string, text: string, wanted: RegExp | null): Promise<string> {
  const socket = connect(path);
  let heard = '';
  let ended = false;
  socket.setEncoding('utf8').on('data', (part: string) => {
    heard += part;
  });
  socket.on('error', () => undefined);
  socket.on('close', () => {
    ended = true;
  });
  socket.write(text);
  for (const limit = performance.now() + LIMIT_MS; !ended && wanted?.test(heard) !== true; await pause(5)) {
    assert.ok(performance.now() < limit, `neither an answer nor the end: ${heard.slice(0, 300)}`);
  }
  socket.destroy();
  return heard;
}

test('needs root: a live agent outlives whatever is written to its socket', needsRoot, async (t) => {
  mountBpffs();
  const still = new StillBed('hostile-socket');
  t.after(() => still.destroy());
  const life = await still.start();
  const path = socketsOf({ folder: still.folder }).agentSocket;
  const before = life.usage().residentKb;
  for (const [what, text, answer] of TEXTS) {
    const heard = await say(path, text, answer);
    if (answer === null) assert.equal(heard, '', what);
    else assert.match(heard, answer, what);
    assert.ok(heard.length < 2000, `${what}: ${heard.length} characters came back`);
    assert.equal((await life.client.status()).problem, null, what);
    assert.ok(still.enforces() && still.speaks(), what);
    assert.equal(life.end, null, what);
  }
  const { residentKb } = life.usage();
  t.diagnostic(`${before >> 10} MB before, ${residentKb >> 10} MB after`);
  assert.ok(residentKb - before < LIMIT_KB);
  assert.deepEqual(life.complaints, []);
});

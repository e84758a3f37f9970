// Following one kind: what is asked after each answer and failure, by a server that is a list of answers.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { fieldsOf } from '#policy/fields.ts';
import { listPages } from './pages.ts';
import { type Listener, Reflector, type Requests, type StreamReader } from './reflector.ts';
import { AnswerTooLarge, ApiError } from './retry.ts';

/** A GET's answer or failure, or what a watch says before it ends in order or fails. */
type Answer =
  | { readonly page: unknown }
  | { readonly lines: readonly unknown[]; readonly end?: Error }
  | { readonly fails: Error };

function page(version: string, names: readonly string[], more = ''): Answer {
  return {
    page: { metadata: { resourceVersion: version, continue: more }, items: names.map((name) => named(name, version)) },
  };
}

function named(name: string, resourceVersion: string): unknown {
  return { metadata: { name, resourceVersion } };
}

function line(type: string, name: string, version: string): unknown {
  return { type, object: named(name, version) };
}

type Run = { readonly asked: readonly string[]; readonly told: readonly string[] };

/** Answers in turn; when they are used up, the last request is left waiting. */
async function run(context: TestContext, answers: readonly Answer[]): Promise<Run> {
  const [asked, told]: string[][] = [[], []];
  const left = [...answers];
  const next = async (path: string, signal: AbortSignal): Promise<Answer> => {
    const { pathname, searchParams } = new URL(path, 'https://api');
    const [version, more] = [searchParams.get('resourceVersion'), searchParams.get('continue')];
    asked?.push(
      `${searchParams.get('watch') === null ? `list ${searchParams.get('limit')}` : `watch ${version}`}${more ? ` ${more}` : ''}`,
    );
    assert.equal(pathname, '/things');
    const answer = left.shift();
    if (answer === undefined) {
      over.resolve();
      await pause(1e6, undefined, { signal });
    }
    if (answer !== undefined && 'fails' in answer) throw answer.fails;
    return answer ?? { lines: [] };
  };
  const over = Promise.withResolvers<void>();
  const requests: Requests = {
    get: async (path, signal) => {
      const answer = await next(path, signal);
      assert.ok('page' in answer, `${path} is asked, where a watch is expected`);
      return answer.page;
    },
    stream: async (path: string, reader: StreamReader) => {
      const answer = await next(path, reader.signal);
      assert.ok('lines' in answer, `${path} is asked, where a list is expected`);
      reader.opened();
      reader.lines(answer.lines);
      if (answer.end !== undefined) throw answer.end;
    },
  };
  const nameOf = (object: unknown): string => String(fieldsOf(fieldsOf(object).metadata).name);
  const listener: Listener<string> = {
    read: nameOf,
    list: (names) => void told?.push(`all: ${names.join(' ')}`),
    set: (name) => void told?.push(`set ${name}`),
    gone: (name) => void told?.push(`gone ${name}`),
    state: (problem) => void told?.push(problem ?? 'well'),
  };
  const reflector = new Reflector(requests, { path: '/things', format: 'json', restMs: 0 }, listener, {
    pageSize: 2,
    watchSeconds: 100,
  });
  context.after(() => reflector.close());
  await over.promise;
  return { asked: asked ?? [], told: told ?? [] };
}

const BROKEN = new Error('it broke off');
const busy = new ApiError(429, 'too many requests', 30);

test('pages are joined, and changes follow from the version of the list', async (t) => {
  const lines = [line('ADDED', 'd', '11'), line('MODIFIED', 'a', '12'), line('DELETED', 'b', '13')];
  const { asked, told } = await run(t, [page('10', ['a', 'b'], 'next'), page('10', ['c']), { lines }]);
  assert.deepEqual(asked, ['list 2', 'list 2 next', 'watch 10', 'list 1']);
  assert.deepEqual(told, ['all: a b c', 'well', 'well', 'set d', 'set a', 'gone b']);
});

test('a list that fails half-way is not told, and the next begins at its first page', async (t) => {
  const { asked, told } = await run(t, [page('10', ['a'], 'next'), { fails: BROKEN }, page('20', ['b'])]);
  assert.deepEqual(asked, ['list 2', 'list 2 next', 'list 2', 'watch 20']);
  assert.deepEqual(told, ['it broke off', 'all: b', 'well']);
});

test('an expired page begins the list again, at once', async (t) => {
  const expired = new ApiError(410, 'expired');
  const { asked, told } = await run(t, [page('10', ['a'], 'next'), { fails: expired }, page('20', ['b'])]);
  assert.deepEqual(asked, ['list 2', 'list 2 next', 'list 2', 'watch 20']);
  assert.deepEqual(told, ['all: b', 'well']);
});

test('a busy server is asked for the same page after the time that it names', async (t) => {
  const startedMs = performance.now();
  const { asked, told } = await run(t, [page('10', ['a'], 'next'), { fails: busy }, page('10', ['b'])]);
  assert.ok(performance.now() - startedMs >= 29);
  assert.deepEqual(asked, ['list 2', 'list 2 next', 'list 2 next', 'watch 10']);
  assert.deepEqual(told, ['too many requests', 'all: a b', 'well']);
});

test('a watch that a busy server refuses goes on from the same version; one that broke off is a list', async (t) => {
  const { asked } = await run(t, [
    page('10', ['a']),
    { fails: busy },
    page('10', ['a']),
    { lines: [], end: BROKEN },
    page('12', []),
  ]);
  assert.deepEqual(asked, ['list 2', 'watch 10', 'list 1', 'watch 10', 'list 2', 'watch 12']);
});

test('a watch goes on from the version of the last bookmark', async (t) => {
  const lines = [line('MODIFIED', 'a', '11'), { type: 'BOOKMARK', object: { metadata: { resourceVersion: '19' } } }];
  const { asked, told } = await run(t, [page('10', ['a']), { lines }, page('25', ['a'])]);
  assert.deepEqual(asked, ['list 2', 'watch 10', 'list 1', 'watch 19']);
  assert.deepEqual(told, ['all: a', 'well', 'well', 'set a']);
});

test('a watch goes on from no version that the store has not reached: it would be deaf', async (t) => {
  const { asked, told } = await run(t, [
    page('10', ['a']),
    { lines: [line('ADDED', 'b', '15')] },
    page('9', ['a']),
    page('9', ['a']),
  ]);
  assert.deepEqual(asked, ['list 2', 'watch 10', 'list 1', 'list 2', 'watch 9']);
  const setBack = "the API server's store was set back: version 15 came before 9";
  assert.deepEqual(told, ['all: a', 'well', 'well', 'set b', setBack, setBack, 'all: a', 'well']);
});

test('a change of an earlier version is not taken: everything is listed again', async (t) => {
  const lines = [line('ADDED', 'b', '15'), line('ADDED', 'c', '7'), line('ADDED', 'd', '8')];
  const { asked, told } = await run(t, [page('10', ['a']), { lines }, page('9', ['c'])]);
  assert.deepEqual(asked, ['list 2', 'watch 10', 'list 2', 'watch 9']);
  assert.ok(told.includes('set b') && !told.includes('set c') && !told.includes('set d'), told.join());
});

test('a watch that is told 410 lists at once; where that goes on, it waits longer and longer', async (t) => {
  const gone = { lines: [{ type: 'ERROR', object: { code: 410, message: 'too old resource version' } }] };
  const startedMs = performance.now();
  const { asked, told } = await run(t, [page('10', ['a']), gone, page('11', ['b']), gone, page('12', ['c'])]);
  assert.deepEqual(asked, ['list 2', 'watch 10', 'list 2', 'watch 11', 'list 2', 'watch 12']);
  assert.equal(told.filter((each) => each === 'too old resource version').length, 1, 'the second is no ordinary one');
  assert.ok(performance.now() - startedMs >= 450, 'the pause after the second is half of a second and more');
});

for (const [what, value] of [
  ['a kind of change that nobody knows', { type: 'RENAMED', object: named('b', '11') }],
  ['a change without a version', { type: 'ADDED', object: { metadata: { name: 'b' } } }],
  ['a line that is no change', 7],
] as const) {
  test(`${what} is a failure, and not passed over`, async (t) => {
    const { asked } = await run(t, [page('10', ['a']), { lines: [value] }, page('12', [])]);
    assert.deepEqual(asked, ['list 2', 'watch 10', 'list 2', 'watch 12']);
  });
}

test('a watch never goes on from no version: all that is there would be told, and nothing that has gone', async (t) => {
  const lines = [{ type: 'BOOKMARK', object: { metadata: { resourceVersion: '' } } }];
  const { asked, told } = await run(t, [page('10', ['a']), { lines }, page('12', [])]);
  assert.deepEqual(asked, ['list 2', 'watch 10', 'list 2', 'watch 12']);
  assert.deepEqual(told, ['all: a', 'well', 'well', 'a change has no version', 'all: ', 'well']);
});

test('watches that end at once, one after the other, tell of nothing: that is a failure', async (t) => {
  const nothing = { lines: [] };
  const { asked, told } = await run(t, [page('10', ['a']), nothing, page('11', ['a']), nothing, page('12', ['b'])]);
  assert.deepEqual(asked, ['list 2', 'watch 10', 'list 1', 'watch 10', 'list 2', 'watch 12']);
  assert.deepEqual(told, ['all: a', 'well', 'well', 'well', 'each watch ends at once', 'all: b', 'well']);
});

test('pages of two versions are no list: what changed between them would never be told', async (t) => {
  const { asked, told } = await run(t, [page('10', ['a'], 'next'), page('14', ['b']), page('15', ['c'])]);
  assert.deepEqual(asked, ['list 2', 'list 2 next', 'list 2', 'watch 15']);
  assert.deepEqual(told, ['the pages are of the versions 10 and 14', 'all: c', 'well']);
});

test('a page that is too large is asked for again in smaller ones, down to a single object', async (t) => {
  const large = { fails: new AnswerTooLarge() };
  const answers = [page('10', ['a'], 'next'), large, page('10', ['b'], 'last'), page('10', ['c'])];
  const { asked, told } = await run(t, answers);
  assert.deepEqual(asked, ['list 2', 'list 2 next', 'list 1 next', 'list 1 last', 'watch 10']);
  assert.deepEqual(told, ['all: a b c', 'well']);
});

test('an answer that is no list is a failure, and never an empty list', async (t) => {
  const version = { metadata: { resourceVersion: '10' } };
  for (const answer of [{}, { items: [] }, version, { ...version, items: {} }, null]) {
    const { told } = await run(t, [{ page: answer }, page('10', ['a'])]);
    assert.deepEqual(told, ['the answer is no list', 'all: a', 'well']);
  }
});

test('a list in which a page follows itself, or that never ends, is no list', async (t) => {
  const { asked, told } = await run(t, [page('10', ['a'], 'next'), page('10', ['b'], 'next'), page('11', ['c'])]);
  assert.deepEqual(asked.slice(0, 3), ['list 2', 'list 2 next', 'list 2']);
  assert.deepEqual(told.slice(0, 2), ['the list has no end: a page is followed by itself', 'all: c']);
  let pages = 0;
  const ask = async (): Promise<unknown> => ({ metadata: { resourceVersion: '1', continue: `${++pages}` }, items: [] });
  await assert.rejects(listPages({ pageSize: 2, ask, take: () => undefined }), /has no end: 100000 pages/);
  assert.equal(pages, 100_000);
});

test('a watch that is given up is a failure: everything is listed again', async (t) => {
  const told: string[] = [];
  const asked: string[] = [];
  const watched = Promise.withResolvers<void>();
  const requests: Requests = {
    get: async (path) => {
      asked.push(path);
      return { metadata: { resourceVersion: String(asked.length) }, items: [] };
    },
    stream: async (_, reader) => {
      reader.opened();
      watched.resolve();
      await pause(1e6, undefined, { signal: reader.signal });
    },
  };
  const listener: Listener<string> = {
    ...{ read: String, set: () => undefined, gone: () => undefined },
    list: () => void told.push('list'),
    state: (problem) => void told.push(problem ?? 'well'),
  };
  const reflector = new Reflector(requests, { path: '/things', format: 'json', restMs: 0 }, listener, {
    pageSize: 2,
    watchSeconds: 100,
  });
  t.after(() => reflector.close());
  await watched.promise;
  reflector.giveUp(new Error('it says nothing'));
  while (asked.length < 2) await pause(5);
  assert.deepEqual(told.slice(0, 5), ['list', 'well', 'well', 'it says nothing', 'list']);
});

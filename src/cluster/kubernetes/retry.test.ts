// When a request is made again.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ApiError, isEarlier, pauseAfter, readRetryAfter } from './retry.ts';

test('pauses double up to half a minute, and chance takes up to half of them away', () => {
  const error = new Error('x');
  const pauses = [1, 2, 3, 6, 7, 100].map((failures) => pauseAfter(error, failures, 0));
  assert.deepEqual(pauses, [500, 1000, 2000, 16_000, 30_000, 30_000]);
  assert.equal(pauseAfter(error, 3, 1), 1000);
});

test('what the server asks for is the least, and no more than five minutes are believed', () => {
  assert.equal(pauseAfter(new ApiError(429, 'x', 7000), 1, 0), 7000);
  assert.equal(pauseAfter(new ApiError(503, 'x', 7000), 9, 1), 10_500);
  assert.equal(pauseAfter(new ApiError(429, 'x', 1e9), 1, 0), 300_000);
  assert.equal(pauseAfter(new ApiError(429, 'x'), 1, 0), 500);
});

test('a server that asks for no pause at all gets the usual ones: nobody asks it in a loop', () => {
  for (const asked of [0, -5000]) assert.equal(pauseAfter(new ApiError(429, 'x', asked), 2, 0), 1000);
});

test('Retry-After is seconds, and nothing else', () => {
  assert.deepEqual(['0', '12', undefined, '-1', '1.5', 'Wed, 21 Oct 2026 07:28:00 GMT'].map(readRetryAfter), [
    0,
    12_000,
    null,
    null,
    null,
    null,
  ]);
});

test('versions are compared as the numbers that they are, however long', () => {
  assert.ok(isEarlier('9', '10'));
  assert.ok(isEarlier('9007199254740992', '9007199254740993'));
  assert.ok(!isEarlier('10', '10') && !isEarlier('10', '9'));
  assert.ok(!isEarlier('a', '10') && !isEarlier('1', 'b'));
});

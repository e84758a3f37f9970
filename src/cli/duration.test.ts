// Times as people write them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseListen } from './address.ts';
import { parseDuration } from './duration.ts';

test('times have a unit, and are a day at most', () => {
  assert.deepEqual(['500ms', '30s', '10m', '24h'].map(parseDuration), [500, 30_000, 600_000, 86_400_000]);
  for (const text of ['', '10', 's', '1.5s', '-1s', '25h', '1 s', '99999999999s', '10m ']) {
    assert.throws(() => parseDuration(text), /Write a time/, text);
  }
});

test('where to listen is an address and a port', () => {
  assert.deepEqual(parseListen('127.0.0.1:9797'), { host: '127.0.0.1', port: 9797 });
  assert.deepEqual(parseListen('[::1]:1'), { host: '::1', port: 1 });
  assert.deepEqual(parseListen(':0'), { host: '::', port: 0 });
  assert.equal(parseListen('off'), null);
  for (const text of ['', '9797', '::1:9797', '127.0.0.1:', '127.0.0.1:65536', 'a b:1', '[x y]:1', 'http://a:1']) {
    assert.throws(() => parseListen(text), /Write an address/, text);
  }
});

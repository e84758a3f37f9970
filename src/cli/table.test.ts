// Tables: columns that fit, words left whole wherever they can be.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tableText } from './table.ts';

test('only a word that is longer than its column is broken, and nothing of it is lost', async () => {
  const rows = [
    ['::-ffff:ffff:ffff:ffff External', 'a/six', 'everything'],
    ['203.0.113.0 External', 'a/web', 'TCP 9000-9010; UDP 53'],
  ];
  assert.deepEqual((await tableText(['from', 'to', 'connections'], rows, 40)).split('\n'), [
    'from             to     connections',
    '::-ffff:ffff:ff  a/six  everything',
    'ff:ffff',
    'External',
    '203.0.113.0      a/web  TCP 9000-9010;',
    'External                UDP 53',
  ]);
});

test('a name that is too long is broken after a dot, where there is one in its second half', async () => {
  const rows = [
    ['networkpolicies.networking.k8s.io', 'ok'],
    ['a.nameofonepartalone', 'ok'],
  ];
  assert.deepEqual(
    (await tableText(['kind', ''], rows, 22)).split('\n').map((line) => line.trimEnd()),
    ['kind', 'networkpolicies.    ok', 'networking.k8s.io', 'a.nameofonepartalo  ok', 'ne'],
  );
});

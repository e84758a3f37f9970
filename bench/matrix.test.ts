// The check that a measured network enforces its policies can fail.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { needsRoot } from '../test/support/needs.ts';
import { checkMatrix } from './matrix.ts';
import { BenchNetwork } from './network.ts';
import { openWorld, selectingWorld } from './worlds.ts';

test('plain routing passes the matrix of a world without policies, and no other’s', needsRoot, async () => {
  const isolated = selectingWorld(3);
  const net = await BenchNetwork.make(`bmx${process.pid}`, isolated.measured);
  try {
    await net.raise();
    await checkMatrix('plain', net, openWorld());
    await assert.rejects(checkMatrix('plain', net, isolated), /judges \d+ of \d+ cells wrongly/);
  } finally {
    await net.destroy();
  }
});

// `install --check` of a node: what can be told without one.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { needsSources } from '#test/support/needs.ts';
import { portFindings, SELF_PORTS } from './install-node.ts';

test('the node’s own ports end before those by which it asks for clients outside, or that is said', () => {
  assert.deepEqual(portFindings(null), []);
  assert.deepEqual(portFindings('32768\t60999'), []);
  for (const range of ['1024\t65535', '32768\t61000']) {
    const [finding] = portFindings(range);
    assert.equal(finding?.status, 'warning');
    assert.equal(finding?.found, `net.ipv4.ip_local_port_range = ${range.replace('\t', ' ')}`);
  }
});

test('these are the kernel programs’', needsSources, () => {
  const source = readFileSync(join(import.meta.dirname, '../../bpf/self.h'), 'utf8');
  assert.equal(Number(source.match(/#define SELF_PORTS (\d+)/)?.[1]), SELF_PORTS);
});

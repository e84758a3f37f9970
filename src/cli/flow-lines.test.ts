// Flows as lines and as JSON: which are told, and what each says.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FlowEvent, NamedRule } from '#agent/protocol.ts';
import type { RuleId } from '#policy/model.ts';
import type { PodKey } from '#policy/world.ts';
import { type FlowFilter, isWanted } from './flow-filter.ts';
import { flowJson } from './flow-json.ts';
import { flowText } from './flow-text.ts';

const CLOCKS = { dayMs: Date.UTC(2026, 0, 2, 3, 4, 5, 678), monotonicNs: 9_000_000_000n };
const DEFAULT_DENY: NamedRule = {
  ...{ number: 1, id: 'default-deny/default/ingress/NetworkPolicy:shop/db' as RuleId, action: 'deny', more: 0 },
  places: [{ object: 'NetworkPolicy shop/db', path: 'spec', file: null, line: null }],
};
const EVENT: FlowEvent = {
  ...{ node: 'n1', kind: 'drop', hook: 'to-pod', reason: 'policy', leg: 'ingress', egress: null },
  ...{ ingress: DEFAULT_DENY, source: '10.0.0.1', sourcePod: 'shop/web' as PodKey, destination: '10.0.0.2' },
  ...{ destinationPod: 'shop/db' as PodKey, protocol: 6, sourcePort: 1, destinationPort: 80, count: 3 },
  timeNs: '8500000000',
};

test('lines', () => {
  const lines: readonly (readonly [Partial<FlowEvent>, string])[] = [
    [{}, 'shop/web:1 → shop/db:80/TCP dropped: policy (ingress) by NetworkPolicy shop/db spec (3 times)'],
    [
      { kind: 'audit' },
      'shop/web:1 → shop/db:80/TCP would be dropped: policy (ingress) by NetworkPolicy shop/db spec (3 times)',
    ],
    [
      { kind: 'new', reason: 'none', leg: null, ingress: null, count: 1, sourcePod: null, protocol: 17 },
      '10.0.0.1:1 → shop/db:80/UDP forwarded',
    ],
    [
      {
        source: 'fd00::1',
        sourcePod: null,
        protocol: 58,
        destinationPort: 0x8000,
        reason: 'malformed',
        leg: null,
        ingress: null,
      },
      'fd00::1 → shop/db ICMPv6 type 128 code 0 dropped: malformed (3 times)',
    ],
    [{ source: 'fd00::1', sourcePod: null, kind: 'close', count: 1 }, '[fd00::1]:1 → shop/db:80/TCP ended'],
  ];
  for (const [change, line] of lines) {
    assert.equal(flowText({ ...EVENT, ...change }, CLOCKS), `03:04:05.178 n1 ${line}`);
  }
});

test('JSON has the names of Hubble, and what those lack beside them', () => {
  const value = JSON.parse(flowJson(EVENT, CLOCKS));
  assert.deepEqual(value, {
    flow: {
      ...{ time: '2026-01-02T03:04:05.178Z', verdict: 'DROPPED', Type: 'L3_L4', node_name: 'n1' },
      IP: { source: '10.0.0.1', destination: '10.0.0.2', ipVersion: 'IPv4' },
      l4: { TCP: { source_port: 1, destination_port: 80 } },
      source: { namespace: 'shop', pod_name: 'web' },
      destination: { namespace: 'shop', pod_name: 'db' },
      ...{ traffic_direction: 'INGRESS', drop_reason_desc: 'POLICY_DENIED' },
      ingress_denied_by: [{ kind: 'NetworkPolicy', namespace: 'shop', name: 'db' }],
    },
    ...{ node_name: 'n1', time: '2026-01-02T03:04:05.178Z' },
    moat: {
      ...{ kind: 'drop', reason: 'policy', leg: 'ingress', count: 3 },
      rules: { egress: null, ingress: DEFAULT_DENY.id },
    },
  });
  assert.equal(flowJson(EVENT, CLOCKS).includes('\n'), false);
  const audited = JSON.parse(flowJson({ ...EVENT, kind: 'audit' }, CLOCKS));
  assert.equal(audited.flow.verdict, 'AUDIT');
  assert.deepEqual(audited.flow.ingress_denied_by, value.flow.ingress_denied_by);
  assert.equal(audited.flow.drop_reason_desc, undefined, 'nothing was dropped');
});

test('filters', () => {
  const any: FlowFilter = { namespace: null, pod: null, verdict: null };
  const wanted: readonly (readonly [Partial<FlowFilter>, boolean])[] = [
    [{}, true],
    [{ namespace: 'shop' }, true],
    [{ namespace: 'sho' }, false],
    [{ pod: 'shop/db' }, true],
    [{ pod: 'shop/d' }, false],
    [{ verdict: 'dropped' }, true],
    [{ verdict: 'forwarded' }, false],
    [{ pod: 'shop/web', verdict: 'forwarded' }, false],
  ];
  const audit: FlowFilter = { ...any, verdict: 'audit' };
  assert.deepEqual([isWanted(audit, EVENT), isWanted(audit, { ...EVENT, kind: 'audit' })], [false, true]);
  for (const [filter, is] of wanted) assert.equal(isWanted({ ...any, ...filter }, EVENT), is, JSON.stringify(filter));
});

// The two-table look-up and the legs of a flow, on a Plan written by hand.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { applyStep, emptyPlan } from '#compile/apply.ts';
import type { Interval, Plan, RuleInfo, Step } from '#compile/plan.ts';
import { type Address, parseAddress } from '#net/address.ts';
import { axisRange, WHOLE_AXIS } from '#net/axis.ts';
import { parseCidr } from '#net/cidr.ts';
import { TCP } from '#net/protocol.ts';
import type { Action, RuleId } from '#policy/model.ts';
import type { FieldPath } from '#policy/object.ts';
import { podKey } from '#policy/world.ts';
import { judge } from './verdict.ts';

const WORLD = 1;
const FRIEND = 2;
const UNKNOWN = 3;
const NODE = 4;

function address(text: string): Address {
  const found = parseAddress(text);
  assert.ok(found, text);
  return found;
}

function rule(number: number, id: string, action: Action, source: 'written' | 'default'): Step {
  const from = { dialect: 'k', kind: 'K', namespace: 'n', name: 'p', path: '' as FieldPath, file: null, line: null };
  const value: RuleInfo = {
    id: id as RuleId,
    direction: 'ingress',
    action,
    source: source === 'written' ? from : null,
    policies: [],
    places: 1,
  };
  return { kind: 'rule', rule: number, value };
}

function interval(rule: number, action: Action, ports: { first: number; last: number }): Interval {
  return { ...ports, action, rule, order: rule };
}

const port = (number: number) => axisRange(TCP, number, number);

/** Pod 10.0.0.1 on node n1 with ingress set 1 (admin layer 10, default layer 11); 10.0.0.2 is a friend with open sets. */
function plan(extra: readonly Step[] = []): Plan {
  const cidr = (text: string) => {
    const found = parseCidr(text);
    assert.ok(found, text);
    return found.cidr;
  };
  const steps: Step[] = [
    rule(1, 'admin-pass', 'pass', 'written'),
    rule(2, 'admin-deny', 'deny', 'written'),
    rule(3, 'allow-80', 'allow', 'written'),
    rule(9, 'default-deny', 'deny', 'default'),
    { kind: 'identity', identity: WORLD, value: { unknown: false } },
    { kind: 'identity', identity: FRIEND, value: { unknown: false } },
    { kind: 'identity', identity: NODE, value: { unknown: false } },
    { kind: 'identity', identity: UNKNOWN, value: { unknown: true } },
    { kind: 'table', table: 1, value: [interval(1, 'pass', port(80)), interval(1, 'pass', port(81))] },
    { kind: 'table', table: 2, value: [interval(2, 'deny', port(80))] },
    { kind: 'table', table: 3, value: [interval(9, 'deny', WHOLE_AXIS)] },
    { kind: 'table', table: 4, value: [interval(3, 'allow', port(80)), interval(3, 'allow', port(8080))] },
    { kind: 'layer', layer: 10, value: { base: 2 } },
    { kind: 'class', layer: 10, identity: FRIEND, value: 1 },
    { kind: 'layer', layer: 11, value: { base: 3 } },
    { kind: 'class', layer: 11, identity: FRIEND, value: 4 },
    { kind: 'set', set: 1, value: { layers: [10, 11] } },
    { kind: 'set', set: 2, value: { layers: [] } },
    { kind: 'address', address: address('10.0.0.1'), value: WORLD },
    { kind: 'address', address: address('10.0.0.2'), value: FRIEND },
    { kind: 'address', address: address('192.168.0.1'), value: NODE },
    { kind: 'prefix', cidr: cidr('0.0.0.0/0'), value: WORLD },
    { kind: 'prefix', cidr: cidr('10.0.0.0/24'), value: UNKNOWN },
    endpoint('10.0.0.1', 1),
    endpoint('10.0.0.2', 2),
    { kind: 'node', node: 'n1', value: [address('192.168.0.1')] },
    { kind: 'node', node: 'n2', value: [address('192.168.0.2')] },
    ...extra,
  ];
  const made = emptyPlan();
  for (const step of steps) applyStep(made, step);
  return made;
}

function endpoint(text: string, ingress: number): Step {
  const value = { address: address(text), pod: podKey('n', text), node: 'n1', egress: 2, ingress };
  return { kind: 'endpoint', address: address(text), value };
}

function check(flow: string, expect: string, on: Plan = plan()): void {
  const [from = '', to = '', port] = flow.split(' ');
  const found = judge(on, { from: address(from), to: address(to), protocol: TCP, port: Number(port) });
  const leg = (which: 'egress' | 'ingress'): string =>
    `${found[which].verdict} ${found[which].reason}${found[which].rule ? ` ${found[which].rule}` : ''}`;
  assert.equal(`${leg('egress')} | ${leg('ingress')}`, expect, flow);
}

test('of a base hit and a class hit the smaller order decides, and pass goes to the next layer', () => {
  check('10.0.0.2 10.0.0.1 80', 'allow open | allow rule allow-80');
  check('10.0.0.2 10.0.0.1 81', 'allow open | deny default-deny default-deny');
  check('10.0.0.2 10.0.0.1 8080', 'allow open | allow rule allow-80');
  check('8.8.8.8 10.0.0.1 80', 'allow not-endpoint | deny rule admin-deny');
  check('8.8.8.8 10.0.0.1 8080', 'allow not-endpoint | deny default-deny default-deny');
});

test('a pod to itself and a pod from its own node are not judged, another node is', () => {
  check('10.0.0.1 10.0.0.1 99', 'allow self | allow self');
  check('192.168.0.1 10.0.0.1 99', 'allow not-endpoint | allow own-node');
  check('192.168.0.2 10.0.0.1 99', 'allow not-endpoint | deny default-deny default-deny');
});

test('a deny for an address of a pod block that no pod has is reported as peer-unknown', () => {
  check('10.0.0.77 10.0.0.1 80', 'allow not-endpoint | deny peer-unknown admin-deny');
});

test('an address that is no endpoint of ours is not judged', () => {
  check('10.0.0.1 8.8.8.8 80', 'allow open | allow not-endpoint');
});

test('a Plan that points at what it does not hold denies', () => {
  check('10.0.0.2 10.0.0.1 80', 'allow open | deny default-deny', plan([{ kind: 'table', table: 3, value: null }]));
  check('10.0.0.2 10.0.0.1 80', 'allow open | deny default-deny', plan([{ kind: 'set', set: 1, value: null }]));
  check('10.0.0.2 10.0.0.1 80', 'allow open | deny default-deny', plan([{ kind: 'rule', rule: 3, value: null }]));
});

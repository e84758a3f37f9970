// What is in force for whom, while changes wait for their turn.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Compiler } from '#compile/compiler.ts';
import { type Address, parseAddress } from '#net/address.ts';
import { DEFAULT_TIER, type Policy, policyKey, type RuleId } from '#policy/model.ts';
import { EVERYTHING } from '#policy/selector.ts';
import { type Pod, podKey, STANDARD_SEMANTICS, type WorldEvent } from '#policy/world.ts';
import { type NodeDatapath, NodeState } from './node-state.ts';

const HELD_BACK = 200;

function address(text: string): Address {
  const parsed = parseAddress(text);
  assert.ok(parsed);
  return parsed;
}

function pod(name: string, node: string, addresses: readonly string[]): WorldEvent {
  const [namespace, key] = ['shop', podKey('shop', name)];
  const value: Pod = {
    ...{ key, namespace, name, labels: { app: name }, node, addresses: addresses.map(address), ports: [] },
    ...{ hostNetwork: false, finished: false, workload: { kind: 'Pod', namespace, name } },
  };
  return { kind: 'pod', key, value };
}

/** Lets in all pods of the namespace that have a label: that moves the addresses of all of them. */
function policy(name: string): WorldEvent {
  const key = policyKey('NetworkPolicy', 'shop', name);
  const source = {
    dialect: 'kubernetes',
    kind: 'NetworkPolicy',
    namespace: 'shop',
    name,
    path: '',
    file: null,
    line: null,
  };
  const pods = { requirements: [{ op: 'Exists', key: 'app' } as const] };
  const peers = {
    kind: 'these',
    peers: [{ kind: 'pods', namespaces: { kind: 'named', name: 'shop' }, pods }],
  } as const;
  const value: Policy = {
    ...{ key, tier: DEFAULT_TIER, order: name, source, egress: [], isolates: { egress: false, ingress: true } },
    subject: { namespaces: { kind: 'named', name: 'shop' }, pods: EVERYTHING },
    ingress: [{ id: `${name}/0` as RuleId, action: 'allow', peers, ports: { kind: 'any' }, source }],
  };
  return { kind: 'policy', key, value };
}

test('an address is enforced for the pod that has it in the tables, and not for the next one that claims it', () => {
  const compiler = new Compiler({ semantics: STANDARD_SEMANTICS, isLocal: ({ node }) => node === 'here' });
  // Of the datapath, this needs no more than that it takes the steps.
  const state = new NodeState('here', compiler, { apply: () => undefined } as unknown as NodeDatapath);
  const many = Array.from({ length: HELD_BACK }, (_, index) => pod(`far-${index}`, 'there', [`10.1.0.${index + 1}`]));
  const [old, next] = [podKey('shop', 'a-old'), podKey('shop', 'b-new')];
  state.apply([pod('a-old', 'here', ['10.0.0.9']), ...many], 1);
  while (state.isBusy) state.advance();
  assert.ok(state.enforces(old, address('10.0.0.9')));
  state.apply([policy('p'), pod('a-old', 'here', ['10.0.0.9'])], 2);
  state.apply([pod('a-old', 'here', [])], 3);
  state.apply([pod('b-new', 'here', ['10.0.0.9'])], 3);
  assert.ok(state.isBusy, 'the end of the old one waits for the policy that came with it');
  assert.ok(!state.enforces(next, address('10.0.0.9')), 'it would be judged as the old one');
  while (state.isBusy) state.advance();
  assert.ok(state.enforces(next, address('10.0.0.9')) && !state.enforces(old, address('10.0.0.9')));
});

test('hooks of new interfaces are finished in a second without one, and where there is none for half a minute, too', (t) => {
  let nowMs = 0;
  t.mock.method(performance, 'now', () => nowMs);
  let finished = 0;
  const datapath = { attachNew: () => undefined, finishNew: () => finished++, repair: () => [] };
  const compiler = new Compiler({ semantics: STANDARD_SEMANTICS, isLocal: () => true });
  const state = new NodeState('here', compiler, datapath as unknown as NodeDatapath);
  const passes = (seconds: number, isBusy: boolean): number => {
    finished = 0;
    for (const endMs = nowMs + seconds * 1000; nowMs < endMs; nowMs += 500) {
      if (isBusy) state.attachNew({ interfaceIndex: 1, mac: new Uint8Array(6), addresses: [] });
      state.repairHooks();
    }
    return finished;
  };
  nowMs = 10_000;
  assert.equal(passes(30, true), 0, 'ADD goes ahead');
  assert.ok(passes(10, true) > 15, 'who makes pods all the time keeps nobody’s hooks from being finished');
  assert.ok(passes(5, false) > 5);
  assert.equal(passes(10, true), 0, 'it was quiet in between');
});

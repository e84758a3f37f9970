// What an agent makes of CNI calls: each mistake has its code, and a call that is none never becomes one.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { holds } from '#test/support/property.ts';
import { CniError, readCall, readConfig } from './cni-call.ts';
import { errorResult } from './cni-result.ts';
import type { CniCall } from './protocol.ts';

const ARGS = 'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-0;K8S_POD_UID=7d-1';
const ADD: CniCall = {
  ...{ command: 'ADD', containerId: 'c1', netns: '/run/netns/x', ifname: 'eth0', args: ARGS },
  config: '{"cniVersion":"1.1.0","name":"pods"}',
};

function read(call: Partial<CniCall>, config: Readonly<Record<string, unknown>> = {}): ReturnType<typeof readCall> {
  const whole = { ...ADD, ...call };
  return readCall(whole, { ...readConfig(whole.config), ...config });
}

function codeOf(work: () => unknown): number | null {
  try {
    work();
    return null;
  } catch (error) {
    assert.ok(error instanceof CniError, String(error));
    return error.code;
  }
}

test('a call is read as the runtime meant it', () => {
  const about = { id: 'c1@eth0', containerId: 'c1', ifname: 'eth0' };
  const pod = { namespace: 'shop', name: 'cart-0', uid: '7d-1' };
  const add = { version: '1.1.0', command: 'ADD', ...about, netns: '/run/netns/x', pod };
  assert.deepEqual(read({}), { ...add, previous: null });
  assert.deepEqual(read({ command: 'DEL', netns: '', args: '' }), { version: '1.1.0', command: 'DEL', ...about });
  const checked = { ips: [{ address: '10.0.0.1/32' }] };
  assert.deepEqual(read({ command: 'CHECK', args: '' }, { prevResult: checked }), {
    ...{ version: '1.1.0', command: 'CHECK', ...about, netns: '/run/netns/x', expected: ['10.0.0.1/32'] },
  });
  const valid = [{ containerID: 'c1', ifname: 'eth0' }];
  assert.deepEqual(read({ command: 'GC', containerId: '' }, { 'cni.dev/valid-attachments': valid }), {
    ...{ version: '1.1.0', command: 'GC', valid: new Set(['c1@eth0']) },
  });
  for (const chained of [false, true]) {
    const status = { version: '1.1.0', command: 'STATUS', chained };
    assert.deepEqual(read({ command: 'STATUS', containerId: '' }, { chained }), status);
  }
  const result = {
    interfaces: [{ name: 'cni0' }, { name: 'veth1' }, { name: 'eth0', sandbox: '/run/netns/x' }],
    ips: [
      { address: '10.0.0.1/24', interface: 2 },
      { address: 'FD00:0::1/64' },
      { address: '10.0.0.9/24', interface: 0 },
      { address: '10.0.0.8/24', interface: 7 },
    ],
  };
  const previous = { result, addresses: ['10.0.0.1', 'fd00::1'] };
  assert.deepEqual(read({}, { chained: true, prevResult: result }), { ...add, previous });
});

test('what is wrong has its code', () => {
  const rows: readonly [code: number, call: Partial<CniCall>, config?: Readonly<Record<string, unknown>>][] = [
    [1, {}, { cniVersion: '0.2.0' }],
    [1, {}, { cniVersion: undefined }],
    [1, {}, { cniVersion: 1 }],
    [1, { command: 'CHECK' }, { cniVersion: '0.3.1' }],
    [1, { command: 'GC' }, { cniVersion: '1.0.0' }],
    [1, { command: 'STATUS' }, { cniVersion: '1.0.0' }],
    [4, { command: 'add' }],
    [4, { containerId: '' }],
    [4, { containerId: '-rf' }],
    [4, { containerId: 'a@b' }],
    [4, { containerId: 'x'.repeat(201) }],
    [4, { ifname: '' }],
    [4, { ifname: 'eth0 netns 1' }],
    [4, { ifname: '..' }],
    [4, { ifname: 'sixteen-letters0' }],
    [4, { netns: '' }],
    [4, { netns: 'x' }],
    [4, { netns: '/run/netns/x\nlink del eth0' }],
    [4, { netns: '/run/netns/x type dummy' }],
    [4, { args: '' }],
    [4, { args: 'K8S_POD_NAMESPACE=shop' }],
    [4, { args: ARGS.replace('cart-0', 'Cart') }],
    [4, { args: ARGS.replace('7d-1', 'ü') }],
    [4, { command: 'DEL', containerId: '' }],
    [4, { command: 'CHECK', netns: '' }],
    [6, { config: '{' }],
    [6, { config: '[]' }],
    [6, { config: '' }],
    [7, {}, { name: '' }],
    [7, {}, { prevResult: {} }],
    [7, {}, { chained: 1 }],
    [7, {}, { chained: true }],
    [7, {}, { chained: true, prevResult: [] }],
    [7, {}, { chained: true, prevResult: {} }],
    [7, {}, { chained: true, prevResult: { ips: [] } }],
    [7, {}, { chained: true, prevResult: { ips: [null] } }],
    [7, {}, { chained: true, prevResult: { ips: [{ address: '10.0.0.1.2/24' }] } }],
    [7, {}, { chained: true, prevResult: { ips: [{ address: '10.0.0.1/24', interface: 0 }], interfaces: {} } }],
    [7, { command: 'CHECK' }, { prevResult: { ips: 'x' } }],
    [7, { command: 'GC' }],
    [7, { command: 'GC' }, { 'cni.dev/valid-attachments': null }],
    [7, { command: 'GC' }, { 'cni.dev/valid-attachments': [{ containerID: 'c1' }] }],
  ];
  for (const [code, call, config] of rows) {
    assert.equal(
      codeOf(() => read(call, config)),
      code,
      JSON.stringify([call, config]),
    );
  }
});

test('an error is told in the version of the call, with its cause beside it', () => {
  const error = new CniError('tryLater', 'not yet', new Error('because'));
  assert.deepEqual(errorResult('0.4.0', error), {
    exit: 1,
    output: { cniVersion: '0.4.0', code: 11, msg: 'not yet', details: 'because' },
  });
  assert.deepEqual(errorResult(null, new Error('broken')), {
    exit: 1,
    output: { cniVersion: '1.1.0', code: 999, msg: 'broken' },
  });
});

test('whatever a call says, it is read, or refused with a code; what becomes part of a command is one word', (t) => {
  const texts = fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('ADD', 'DEL', 'CHECK', 'GC', 'STATUS', ''));
  const calls = fc.record({
    ...{ command: texts, containerId: texts, netns: texts.map((text) => `/run/${text}`), ifname: texts, args: texts },
    config: fc.oneof(texts, fc.json(), fc.constant(ADD.config)),
  });
  const mixed = fc.record({ base: fc.constant(ADD), change: calls, keys: fc.subarray(Object.keys(ADD)) });
  const property = fc.property(mixed, ({ base, change, keys }) => {
    const call = Object.fromEntries(
      Object.entries(base).map(([key, value]) => [key, keys.includes(key) ? change[key as keyof CniCall] : value]),
    );
    try {
      const read = readCall(call as CniCall, readConfig((call as CniCall).config));
      if ('netns' in read) assert.match(read.netns, /^\/[\w./-]+$/);
      if ('ifname' in read) assert.match(`${read.ifname}${read.containerId}`, /^[\w.-]+$/);
    } catch (error) {
      assert.ok(error instanceof CniError, String(error));
    }
  });
  holds(t, property, 300);
});

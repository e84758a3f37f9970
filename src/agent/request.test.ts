// What an agent makes of requests that are none.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { holds } from '#test/support/property.ts';
import { readRequest } from './request.ts';

const ENDPOINT = { pod: 'shop/web', interfaceIndex: 7, mac: '02:00:00:00:00:01', addresses: ['10.0.0.1'] };

test('a request is read as it was written', () => {
  const attach = { id: 1, method: 'attach', endpoints: [ENDPOINT] };
  assert.deepEqual(readRequest(attach), attach);
  const detach = { id: 2, method: 'detach', interfaces: [7] };
  assert.deepEqual(readRequest(detach), detach);
  const call = { command: 'ADD', containerId: 'c1', netns: '/run/netns/x', ifname: 'eth0', args: '', config: '{}' };
  assert.deepEqual(readRequest({ id: 3, method: 'cni', ...call } as never), { id: 3, method: 'cni', call });
  const bypass = { id: 4, method: 'bypass', forMs: 600_000, by: 'root' };
  assert.deepEqual(readRequest(bypass), bypass);
});

test('what is wrong is named with its field', () => {
  const said = (request: object): string => {
    try {
      readRequest({ id: 1, ...request } as never);
      return 'nothing';
    } catch (error) {
      return (error as Error).message;
    }
  };
  assert.equal(
    said({ method: 'attach', endpoints: [{ ...ENDPOINT, mac: 5 }] }),
    'request: endpoints[0].mac is 5, and text is expected',
  );
  assert.equal(
    said({ method: 'detach', interfaces: ['eth0'] }),
    'request: interfaces[0] is "eth0", and the index of an interface is expected',
  );
  assert.match(said({ method: 'attach', endpoints: [{ ...ENDPOINT, mac: 'zz' }] }), /six bytes/);
  for (const forMs of [-1, 1.5, 86_400_001, '10m', null]) {
    assert.match(said({ method: 'bypass', forMs, by: 'root' }), /^request: forMs is .* milliseconds up to 86400000/);
  }
  assert.match(said({ method: 'bypass', forMs: 1 }), /by is nothing, and text is expected/);
  assert.match(said({ method: 'attach' }), /endpoints is nothing, and a list is expected/);
  assert.match(said({ method: 'constructor' }), /method is "constructor"/);
  assert.match(said({ method: 'detach', interfaces: Array(5000).fill(1) }), /at most 4096/);
});

test('any value is a request or a message, never anything else', (t) => {
  const method = fc.constantFrom('attach', 'detach', 'bypass', 'status', 'subscribe', 'nothing');
  const property = fc.property(fc.integer(), method, fc.dictionary(fc.string(), fc.jsonValue()), (id, name, rest) => {
    try {
      readRequest({ ...rest, id, method: name } as never);
    } catch (error) {
      assert.match((error as Error).message, /^request: /);
      assert.ok((error as Error).message.length < 300);
    }
  });
  holds(t, property, 2000);
});

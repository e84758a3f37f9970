// What balancers are told of a node: kube-proxy's count, written out.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatAddress, parseAddress } from '#net/address.ts';
import { TCP } from '#net/protocol.ts';
import type { EndpointSlice, Service, SliceEndpoint } from '#policy/service.ts';
import { balancerChecks } from './checks.ts';

function address(text: string): NonNullable<ReturnType<typeof parseAddress>> {
  const found = parseAddress(text);
  assert.ok(found, text);
  return found;
}

const WEB: Service = {
  ...{ namespace: 'shop', name: 'web', balancerAddresses: [], externalAddresses: [], ports: [] },
  clusterAddresses: [address('10.96.0.1'), address('fd96::1')],
  ...{ nodeLocal: false, outsideLocal: true, affinitySeconds: null, healthPort: 32_000 },
};
const PLACE = { node: 'node-a', zone: '', addresses: [address('192.0.2.1'), address('2001:db8::1')] };

function endpoint(text: string, state: Partial<SliceEndpoint> = {}): SliceEndpoint {
  return { addresses: [address(text)], ready: true, serving: true, node: 'node-a', ...state };
}

function told(service: Service, ...slices: readonly (readonly SliceEndpoint[])[]): readonly string[] {
  const ports = [{ name: '', protocol: TCP, port: 80 }];
  const all = slices.map((endpoints): EndpointSlice => ({ namespace: 'shop', service: 'web', ports, endpoints }));
  return balancerChecks(service, all, PLACE).map(({ address: at, port, localEndpoints }) => {
    return `${formatAddress(at)} ${port} ${localEndpoints}`;
  });
}

test('ready endpoints of the node count, each address once, for the node’s address of their family', () => {
  const slices = [
    [endpoint('10.1.0.1'), endpoint('10.1.0.2'), endpoint('10.1.0.3', { node: 'node-b' }), endpoint('fd01::1')],
    [endpoint('10.1.0.1'), endpoint('10.1.0.4', { ready: false }), endpoint('10.1.0.5', { node: '' })],
  ];
  assert.deepEqual(told(WEB, ...slices), ['192.0.2.1 32000 2', '2001:db8::1 32000 1']);
  assert.deepEqual(told({ ...WEB, clusterAddresses: [address('10.96.0.1')] }, ...slices), ['192.0.2.1 32000 2']);
  assert.deepEqual(told(WEB), ['192.0.2.1 32000 0', '2001:db8::1 32000 0']);
});

test('nothing is asked of a Service without such a port, of another proxy, or without cluster addresses', () => {
  const { healthPort: _, ...without } = WEB;
  assert.deepEqual(told(without, [endpoint('10.1.0.1')]), []);
  assert.deepEqual(told({ ...WEB, clusterAddresses: [] }, [endpoint('10.1.0.1')]), []);
});

test('a node with an endpoint on the host network, which Moat does not serve to outside, is told to have none', () => {
  assert.deepEqual(told(WEB, [endpoint('10.1.0.1'), endpoint('192.0.2.1'), endpoint('fd01::1')]), [
    '192.0.2.1 32000 0',
    '2001:db8::1 32000 1',
  ]);
});

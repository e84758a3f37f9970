// What authors of Services want at others' cluster addresses: refused, and said, as long as there is such a Service.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from '#net/address.ts';
import { TCP } from '#net/protocol.ts';
import type { Service } from '#policy/service.ts';
import type { ClusterEvent } from '#policy/world.ts';
import { ServiceBook } from './book.ts';
import { refusalTexts } from './wanted.ts';

function address(text: string): NonNullable<ReturnType<typeof parseAddress>> {
  const found = parseAddress(text);
  assert.ok(found, text);
  return found;
}

function service(namespace: string, name: string, more: Partial<Service>): ClusterEvent {
  const none = { clusterAddresses: [], balancerAddresses: [], externalAddresses: [] };
  const usual = { nodeLocal: false, outsideLocal: false, affinitySeconds: null };
  const ports = [{ name: 'p', protocol: TCP, port: 8080 }];
  return {
    kind: 'service',
    key: `${namespace}/${name}`,
    value: { namespace, name, ...none, ...usual, ports, ...more },
  };
}

const DNS = service('kube-system', 'dns', {
  clusterAddresses: [address('10.96.0.10')],
  ports: [{ name: 'dns', protocol: TCP, port: 53 }],
});
const GONE: ClusterEvent = { kind: 'service', key: 'kube-system/dns', value: null };

const FIELDS = [
  ['externalAddresses', 'spec.externalIPs'],
  ['balancerAddresses', 'status.loadBalancer.ingress'],
] as const;

for (const [field, path] of FIELDS) {
  test(`a cluster address is no other Service's by ${path}, at no port, and that is said; without its Service it may be`, () => {
    const taker = service('team', 'taker', {
      clusterAddresses: [address('10.96.0.77')],
      [field]: [address('10.96.0.10'), address('203.0.113.9')],
    });
    const slice: ClusterEvent = {
      kind: 'endpointslice',
      key: 'team/1',
      value: {
        ...{ namespace: 'team', service: 'taker', ports: [{ name: 'p', protocol: TCP, port: 1 }] },
        endpoints: [{ addresses: [address('10.1.0.66')], ready: true, serving: true, node: 'node-a' }],
      },
    };
    const book = new ServiceBook('node-a');
    const served = new Set<string>();
    const follow = (...events: readonly ClusterEvent[]): void => {
      book.note(events);
      for (const step of book.steps()) {
        assert.ok(step.kind === 'service');
        const at = `${step.at.address.words.join()} ${step.at.port} ${step.at.scope ?? ''}`;
        if (step.value === null) served.delete(at);
        else served.add(at);
      }
    };
    const [victim] = address('10.96.0.10').words;
    const taken = (): number => [...served].filter((at) => at.startsWith(`${victim} 8080`)).length;
    follow(taker, slice);
    assert.deepEqual([taken(), book.refusals.length], [2, 0], 'nobody’s yet: inside and outside');
    follow(DNS);
    assert.equal(taken(), 0);
    assert.deepEqual(refusalTexts(book.refusals), [
      `Service team/taker, ${path}: 10.96.0.10 is a cluster address of Service kube-system/dns: nobody gets it by that; name an address that is routed to the nodes from outside`,
    ]);
    const another = { ...book.refusals[0], service: 'team/other' } as (typeof book.refusals)[0];
    assert.match(
      refusalTexts([...book.refusals, another])[0] ?? '',
      /, and 1 more of namespace team: nobody gets it by that;/,
    );
    follow(GONE);
    assert.deepEqual([taken(), book.refusals.length], [2, 0]);
    follow(DNS, { ...taker, value: null } as ClusterEvent);
    assert.deepEqual([taken(), book.refusals.length], [0, 0], 'who asks no more is not told');
  });
}

// Services of a real API server, served by `moat agent` for real pods: real connections to cluster addresses reach backends.
// Needs root.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { TCP, UDP } from '#net/protocol.ts';
import { ApiBed, egressTo } from './support/api-bed.ts';
import { Conversation, MOMENT_MS, type Talk, talks } from './support/conversation.ts';
import { needsApiServer, needsRoot } from './support/needs.ts';
import { NODE_ADDRESSES } from './support/node-bed.ts';
import { address } from './support/pod-bed.ts';

const SERVICES = '/api/v1/namespaces/shop/services';
const SLICES = '/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices';
const PORTS = { TCP: { port: 80, target: 8080 }, UDP: { port: 53, target: 5353 } } as const;
/** The API server's own range has it, and no Service gets it by itself. */
const CLUSTER = { 4: '10.96.1.10', 6: 'fd96::110' } as const;

type Conditions = { readonly ready?: boolean; readonly serving?: boolean; readonly terminating?: boolean };
type Endpoint = {
  readonly pod: string;
  readonly conditions?: Conditions;
  readonly node?: string;
  /** The zone that it is for. */
  readonly zone?: string;
};

describe('Services of an API server, with `--services moat` (needs root)', {
  skip: needsRoot.skip || needsApiServer.skip,
}, () => {
  let bed: ApiBed;
  const addresses = new Map<string, readonly string[]>();

  before(async () => {
    bed = await ApiBed.start('apiservice', ['--services', 'moat']);
    await bed.makePolicy('quiet', egressTo('quiet', 'other'));
    await bed.startAgent();
    for (const name of ['web', 'db', 'other', 'quiet']) addresses.set(name, await bed.run(name));
  });
  after(() => bed?.destroy());

  const addressOf = (pod: string, family: 4 | 6): string => addresses.get(pod)?.[family === 4 ? 0 : 1] ?? '';
  const ports = (protocol: 'TCP' | 'UDP'): object => ({ name: protocol.toLowerCase(), protocol });

  const makeService = async (more: object = {}): Promise<void> => {
    const spec = {
      ...{ clusterIP: CLUSTER[4], clusterIPs: [CLUSTER[4], CLUSTER[6]], ipFamilyPolicy: 'RequireDualStack' },
      ports: (['TCP', 'UDP'] as const).map((each) => ({
        ...ports(each),
        port: PORTS[each].port,
        targetPort: PORTS[each].target,
      })),
    };
    await bed.plane.do('POST', SERVICES, { metadata: { name: 'db' }, spec: { ...spec, ...more } });
  };
  const slice = (family: 4 | 6, endpoints: readonly Endpoint[]): object => ({
    metadata: { name: `db-${family}`, labels: { 'kubernetes.io/service-name': 'db' } },
    addressType: `IPv${family}`,
    ports: (['TCP', 'UDP'] as const).map((each) => ({ ...ports(each), port: PORTS[each].target })),
    endpoints: endpoints.map(({ pod, conditions = { ready: true }, node, zone }) => ({
      ...{ addresses: [addressOf(pod, family)], conditions },
      ...(node === undefined ? {} : { nodeName: node }),
      ...(zone === undefined ? {} : { hints: { forZones: [{ name: zone }] } }),
    })),
  });
  const setEndpoints = async (endpoints: readonly Endpoint[]): Promise<void> => {
    for (const family of [4, 6] as const) {
      const { status } = await bed.plane.ask('GET', `${SLICES}/db-${family}`);
      const [method, path] =
        status === 200 ? (['PATCH', `${SLICES}/db-${family}`] as const) : (['POST', SLICES] as const);
      await bed.plane.do(method, path, slice(family, endpoints));
    }
  };
  const talkOf = (client: string, server: string, protocol: 'TCP' | 'UDP', family: 4 | 6): Talk => ({
    protocol: protocol === 'TCP' ? TCP : UDP,
    ...{ client: bed.node.netns(client), server: bed.node.netns(server) },
    to: { address: address(CLUSTER[family]), port: PORTS[protocol].port },
    at: { address: address(addressOf(server, family)), port: PORTS[protocol].target },
  });
  /** Which of TCP and UDP over IPv4 and IPv6 come about: the client hears the Service, and nobody else. */
  const reached = (client: string, server: string): readonly string[] =>
    (['TCP', 'UDP'] as const).flatMap((protocol) =>
      ([4, 6] as const)
        .filter((family) => talks(talkOf(client, server, protocol, family)))
        .map((family) => `${protocol} IPv${family}`),
    );
  const ALL = ['TCP IPv4', 'TCP IPv6', 'UDP IPv4', 'UDP IPv6'];
  const soon = async (client: string, server: string, wanted: readonly string[]): Promise<void> => {
    let found: readonly string[] = [];
    const holds = async (): Promise<boolean> => {
      found = reached(client, server);
      return found.join() === wanted.join();
    };
    assert.ok(await bed.node.soon(holds), `${client} to ${server} as the Service: ${found}, and not ${wanted}`);
  };
  const dropsBy = async (reason: string): Promise<number> => {
    const client = await bed.node.client();
    const { drops } = await client.status();
    client.close();
    return new Map<string, number>(Object.entries(drops)).get(reason) ?? 0;
  };

  it('are nobody’s addresses before they are made', () => {
    assert.deepEqual(reached('web', 'db'), []);
  });

  it('without endpoints drop what is sent there, and say why', async () => {
    await bed.known(() => makeService());
    const before = await dropsBy('no-backend');
    assert.deepEqual(reached('web', 'db'), []);
    assert.ok((await dropsBy('no-backend')) > before);
  });

  it('with an endpoint reach it by TCP and UDP, both families, and answer as the Service', async () => {
    await setEndpoints([{ pod: 'db' }]);
    await soon('web', 'db', ALL);
    await soon('other', 'db', ALL);
  });

  it('are judged by policy as their backend, at the port where it listens', async () => {
    const from = (port: number): object => ({
      podSelector: { matchLabels: { app: 'db' } },
      policyTypes: ['Ingress'],
      ingress: [
        {
          from: [{ podSelector: { matchLabels: { app: 'web' } } }],
          ports: [{ protocol: 'TCP', port }],
        },
      ],
    });
    assert.deepEqual(reached('quiet', 'db'), [], 'egress to others than the backend');
    await bed.makePolicy('db', from(PORTS.TCP.port));
    await soon('web', 'db', []);
    await bed.changePolicy('db', from(PORTS.TCP.target));
    await soon('web', 'db', ['TCP IPv4', 'TCP IPv6']);
    assert.deepEqual(reached('other', 'db'), []);
    await bed.deletePolicy('db');
    await soon('web', 'db', ALL);
  });

  it('go to who is ready; else to who serves while it terminates; a connection that stands stays', async () => {
    const talk = new Conversation(talkOf('web', 'db', 'TCP', 4));
    assert.ok(talk.exchange(1));
    await setEndpoints([
      { pod: 'db', conditions: { ready: false, serving: true, terminating: true } },
      { pod: 'other' },
    ]);
    await soon('web', 'other', ALL);
    assert.ok(talk.exchange(1), 'with the backend of before');
    talk.close();
    assert.deepEqual(reached('web', 'db'), []);
    await setEndpoints([{ pod: 'db', conditions: { ready: false, serving: true, terminating: true } }]);
    await soon('web', 'db', ALL);
    await setEndpoints([{ pod: 'db', conditions: { ready: false, serving: false } }]);
    await soon('web', 'db', []);
  });

  it('with internalTrafficPolicy Local go to endpoints of the client’s node alone', async () => {
    await bed.plane.do('PATCH', `${SERVICES}/db`, { spec: { internalTrafficPolicy: 'Local' } });
    await setEndpoints([
      { pod: 'db', node: 'node-a' },
      { pod: 'other', node: 'node-b' },
    ]);
    await soon('web', 'db', ALL);
    assert.deepEqual(reached('web', 'other'), []);
    await setEndpoints([{ pod: 'db', node: 'node-b' }]);
    await soon('web', 'db', []);
    await bed.plane.do('PATCH', `${SERVICES}/db`, { spec: { internalTrafficPolicy: 'Cluster' } });
    await soon('web', 'db', ALL);
  });

  it('with hints go to endpoints that are for the zone of the client’s node, where it has one', async () => {
    const labels = (zone: string | null): object => ({ metadata: { labels: { 'topology.kubernetes.io/zone': zone } } });
    const moveTo = (zone: string | null): Promise<unknown> =>
      bed.plane.do('PATCH', '/api/v1/nodes/node-a', labels(zone));
    await setEndpoints([
      { pod: 'db', zone: 'zone-1' },
      { pod: 'other', zone: 'zone-2' },
    ]);
    for (const [zone, near, far] of [
      ['zone-1', 'db', 'other'],
      ['zone-2', 'other', 'db'],
    ] as const) {
      await moveTo(zone);
      // Once may be chance, while both still serve.
      for (let each = 0; each < 6; each++) await soon('web', near, ALL);
      for (let each = 0; each < 4; each++) assert.deepEqual(reached('web', far), []);
    }
    await setEndpoints([{ pod: 'db', zone: 'zone-1' }]);
    await soon('web', 'db', ALL);
    await moveTo(null);
    await setEndpoints([{ pod: 'db' }]);
  });

  it('have node ports, balancers’ addresses and external ones for pods of this node, whose policy they are under', async () => {
    const balancer = { 4: '203.0.113.10', 6: '2001:db8:1::10' } as const;
    const external = { 4: '203.0.113.20', 6: '2001:db8:1::20' } as const;
    const nodePorts = { TCP: 30_080, UDP: 30_053 } as const;
    const [own4 = '', own6 = ''] = NODE_ADDRESSES;
    const own = { 4: own4, 6: own6 };
    const at = (addresses: Readonly<Record<4 | 6, string>>, ofNode: boolean, server: string): readonly string[] =>
      (['TCP', 'UDP'] as const).flatMap((protocol) =>
        ([4, 6] as const)
          .filter((family) => {
            const port = ofNode ? nodePorts[protocol] : PORTS[protocol].port;
            const to = { address: address(addresses[family]), port };
            return talks({ ...talkOf('web', server, protocol, family), to });
          })
          .map((family) => `${protocol} IPv${family}`),
      );
    const found = (): readonly string[] => [
      ...at(own, true, 'db'),
      ...at(balancer, false, 'db'),
      ...at(external, false, 'db'),
    ];
    assert.deepEqual(found(), []);
    const ports = (['TCP', 'UDP'] as const).map((each) => ({
      ...{ name: each.toLowerCase(), protocol: each, port: PORTS[each].port },
      ...{ targetPort: PORTS[each].target, nodePort: nodePorts[each] },
    }));
    const outer = { type: 'LoadBalancer', externalIPs: [external[4], external[6]], ports };
    await bed.plane.do('PATCH', `${SERVICES}/db`, { spec: outer });
    const ingress = [balancer[4], balancer[6]].map((ip) => ({ ip }));
    await bed.plane.do('PATCH', `${SERVICES}/db/status`, { status: { loadBalancer: { ingress } } });
    assert.ok(await bed.node.soon(async () => found().length === 12), found().join());
    await bed.makePolicy('nobody', { podSelector: { matchLabels: { app: 'db' } }, policyTypes: ['Ingress'] });
    assert.ok(await bed.node.soon(async () => found().length === 0));
    await bed.deletePolicy('nobody');
    const inner = { type: 'ClusterIP', externalIPs: null, ports: ports.map((each) => ({ ...each, nodePort: null })) };
    await soon('web', 'db', ALL);
    await bed.plane.do('PATCH', `${SERVICES}/db`, { spec: inner });
    assert.ok(await bed.node.soon(async () => found().length === 0), found().join());
    assert.deepEqual(reached('web', 'db'), ALL);
  });

  it('stay as they are while no agent runs, and are what they have become when the next one does', async () => {
    await bed.node.killAgent();
    assert.deepEqual(reached('web', 'db'), ALL);
    await setEndpoints([{ pod: 'other' }]);
    assert.deepEqual(reached('web', 'db'), ALL, 'nobody has heard of it');
    const datagrams = new Conversation(talkOf('web', 'db', 'UDP', 4));
    assert.ok(datagrams.exchange(1));
    await bed.startAgent();
    await soon('web', 'other', ALL);
    assert.equal(datagrams.exchange(1, MOMENT_MS), false, 'a socket that meant it before finds the next backend');
    datagrams.close();
    assert.deepEqual(reached('web', 'db'), []);
    await setEndpoints([{ pod: 'db' }]);
    await soon('web', 'db', ALL);
  });

  it('are nobody’s again once they are deleted, and headless ones are from the start', async () => {
    await bed.plane.do('DELETE', `${SERVICES}/db`);
    await soon('web', 'db', []);
    await bed.known(() => makeService({ clusterIP: 'None', clusterIPs: ['None'] }));
    assert.deepEqual(reached('web', 'db'), []);
    await bed.plane.do('DELETE', `${SERVICES}/db`);
    await makeService();
    await soon('web', 'db', ALL);
  });

  it('are left to others by an agent that is not told to serve them', async () => {
    await bed.node.killAgent();
    await bed.startAgent(['--services', 'kube-proxy']);
    await soon('web', 'db', []);
    await bed.node.killAgent();
    await bed.startAgent();
    await soon('web', 'db', ALL);
  });

  it('are reached by nobody with the hooks taken off: it is the hooks that translate', async () => {
    await bed.node.detachHooks();
    assert.deepEqual(reached('web', 'db'), []);
  });
});

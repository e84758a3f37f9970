// Services of a real API server, for sockets of the node itself and of pods on its network: `moat agent` as users start it, real
// connections. Needs root.
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { unpinDatapath } from '#datapath/ebpf/open.ts';
import { pinPath } from '#kernel/bpffs.ts';
import { cgroupRoot } from '#kernel/cgroup.ts';
import { TCP, UDP } from '#net/protocol.ts';
import { ApiBed } from './support/api-bed.ts';
import { Conversation, type Talk, talks } from './support/conversation.ts';
import { needsApiServer, needsRoot } from './support/needs.ts';
import { NODE, NODE_ADDRESSES } from './support/node-bed.ts';
import { address } from './support/pod-bed.ts';

const SERVICES = '/api/v1/namespaces/shop/services';
const SLICES = '/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices';
const PORTS = {
  TCP: { number: TCP, port: 80, targetPort: 8080, nodePort: 30080 },
  UDP: { number: UDP, port: 53, targetPort: 5353, nodePort: 30053 },
} as const;
const PROTOCOLS = ['TCP', 'UDP'] as const;
/** The API server's own range has it, and no Service gets it by itself. */
const CLUSTER = ['10.96.1.10', 'fd96::110'] as const;
const EXTERNAL = ['203.0.113.80', '2001:db8::80'] as const;

type Place = { readonly addresses: readonly string[]; readonly kind: 'port' | 'nodePort' };

const PLACES: Readonly<Record<string, Place>> = {
  'cluster address': { addresses: CLUSTER, kind: 'port' },
  'node port': { addresses: NODE_ADDRESSES, kind: 'nodePort' },
  'external address': { addresses: EXTERNAL, kind: 'port' },
};

const ALL: readonly string[] = Object.keys(PLACES).flatMap((place) =>
  PROTOCOLS.flatMap((protocol) => [`${place} ${protocol} IPv4`, `${place} ${protocol} IPv6`]),
);

describe('Services of an API server, for clients on the node itself, with `--services moat` (needs root)', {
  skip: needsRoot.skip || needsApiServer.skip,
}, () => {
  let bed: ApiBed;
  let pod: readonly string[] = [];

  before(async () => {
    bed = await ApiBed.start('apihost', ['--services', 'moat']);
    await bed.startAgent();
    pod = await bed.run('db');
    await bed.run('web');
  });
  after(() => bed?.destroy());

  const setEndpoints = async (addresses: readonly string[], node = NODE): Promise<void> => {
    for (const [index, family] of ['IPv4', 'IPv6'].entries()) {
      const endpoints =
        addresses.length === 0 ? [] : [{ addresses: [addresses[index]], conditions: { ready: true }, nodeName: node }];
      const name = `db-${index}`;
      const metadata = { name, labels: { 'kubernetes.io/service-name': 'db' } };
      const ports = PROTOCOLS.map((protocol) => ({
        ...{ name: protocol.toLowerCase(), protocol, port: PORTS[protocol].targetPort },
      }));
      const { status } = await bed.plane.ask('GET', `${SLICES}/${name}`);
      const [method, path] = status === 200 ? (['PATCH', `${SLICES}/${name}`] as const) : (['POST', SLICES] as const);
      await bed.plane.do(method, path, { metadata, addressType: family, ports, endpoints });
    }
  };

  const talkOf = (place: Place, protocol: 'TCP' | 'UDP', family: 0 | 1): Talk => ({
    protocol: PORTS[protocol].number,
    ...{ client: bed.node.netns('node'), server: bed.node.netns('db') },
    to: { address: address(place.addresses[family] ?? ''), port: PORTS[protocol][place.kind] },
    at: { address: address(pod[family] ?? ''), port: PORTS[protocol].targetPort },
  });

  /** By what the node itself reaches the pod. */
  const reached = (): readonly string[] =>
    Object.entries(PLACES).flatMap(([name, place]) =>
      PROTOCOLS.flatMap((protocol) =>
        ([0, 1] as const)
          .filter((family) => talks(talkOf(place, protocol, family)))
          .map((family) => `${name} ${protocol} IPv${family === 0 ? 4 : 6}`),
      ),
    );

  const soon = async (wanted: readonly string[]): Promise<void> => {
    let found: readonly string[] = [];
    const holds = async (): Promise<boolean> => {
      found = reached();
      return found.join() === wanted.join();
    };
    assert.ok(await bed.node.soon(holds), `${found}, and not ${wanted}`);
  };

  it('are nobody’s addresses before they are made', () => {
    assert.deepEqual(reached(), []);
  });

  it('are reached at cluster addresses, at ports of the node, and at external addresses', async () => {
    const ports = PROTOCOLS.map((protocol) => {
      const { port, targetPort, nodePort } = PORTS[protocol];
      return { name: protocol.toLowerCase(), protocol, port, targetPort, nodePort };
    });
    const clusterIPs = { clusterIP: CLUSTER[0], clusterIPs: CLUSTER, ipFamilyPolicy: 'RequireDualStack' };
    const spec = { type: 'NodePort', ...clusterIPs, externalIPs: EXTERNAL, ports };
    await bed.plane.do('POST', SERVICES, { metadata: { name: 'db' }, spec });
    await setEndpoints(pod);
    await soon(ALL);
  });

  it('are judged by policy as what the node sends, and are of this node alone where they say so', async () => {
    await bed.makePolicy('nobody', { podSelector: {}, policyTypes: ['Ingress'] });
    await bed.plane.do('PATCH', `${SERVICES}/db`, { spec: { internalTrafficPolicy: 'Local' } });
    await setEndpoints(pod, 'node-b');
    await soon(ALL.filter((each) => !each.startsWith('cluster address')));
    await setEndpoints(pod);
    await soon(ALL);
    const web = { ...talkOf({ addresses: CLUSTER, kind: 'port' }, 'TCP', 0), client: bed.node.netns('web') };
    assert.equal(talks(web), false, 'a pod is not let in');
    await bed.deletePolicy('nobody');
    await bed.plane.do('PATCH', `${SERVICES}/db`, { spec: { internalTrafficPolicy: 'Cluster' } });
  });

  it('are reached while no agent runs, and from there on by the next one', async () => {
    const standing = new Conversation(talkOf({ addresses: CLUSTER, kind: 'port' }, 'TCP', 0));
    assert.ok(standing.exchange(1));
    await bed.node.killAgent();
    assert.ok(standing.exchange(1));
    standing.close();
    assert.deepEqual(reached(), ALL);
    await bed.startAgent();
    assert.deepEqual(reached(), ALL);
    await setEndpoints([]);
    await soon([]);
    await setEndpoints(pod);
    await soon(ALL);
  });

  it('are reached by nobody where no root of cgroup2 is mounted, which is said; pods go on', async () => {
    await bed.node.killAgent();
    unpinDatapath(bed.node.instance, NODE);
    const covered = `mount -t tmpfs none ${cgroupRoot()} && exec "$@"`;
    const by = ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', covered, 'sh'];
    await bed.node.serves(bed.spawnAgent(undefined, by));
    const client = await bed.node.client();
    const isSaid = async (): Promise<boolean> =>
      /no root of cgroup2 is mounted here/.test(String((await client.status()).problem));
    assert.ok(await bed.node.soon(isSaid));
    assert.equal((await client.status()).ready, true);
    client.close();
    assert.deepEqual([reached(), pins()], [[], []]);
    const cluster = talkOf({ addresses: CLUSTER, kind: 'port' }, 'TCP', 0);
    assert.ok(talks({ ...cluster, client: bed.node.netns('web') }), 'a pod');
    await bed.node.killAgent();
    await bed.startAgent();
    await soon(ALL);
  });

  it('are left to others by an agent that is not told to serve them, and have no hooks then', async () => {
    await bed.node.killAgent();
    await bed.startAgent(['--services', 'kube-proxy']);
    await soon([]);
    assert.deepEqual(pins(), []);
    await bed.node.killAgent();
    await bed.startAgent();
    await soon(ALL);
    assert.equal(pins().length, 8);
  });

  it('are reached by nobody once the agent’s pins are gone: it is the hooks that translate', async () => {
    await bed.node.killAgent();
    assert.deepEqual(reached(), ALL);
    unpinDatapath(bed.node.instance, NODE);
    assert.deepEqual(reached(), []);
  });

  function pins(): readonly string[] {
    const folder = pinPath(bed.node.instance, NODE);
    return existsSync(folder) ? readdirSync(folder).filter((name) => name.startsWith('host_')) : [];
  }
});

// Services of a real API server for clients outside of the node, served by `moat agent`: real connections from another machine's
// namespace to node ports and external addresses reach pods of this node, which see who asks. Needs root.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import { formatAddress } from '#net/address.ts';
import { TCP, UDP } from '#net/protocol.ts';
import { ApiBed } from './support/api-bed.ts';
import { Conversation, type Talk, talks } from './support/conversation.ts';
import { needsApiServer, needsRoot } from './support/needs.ts';
import { NODE, NODE_ADDRESSES } from './support/node-bed.ts';
import { address } from './support/pod-bed.ts';

const SERVICES = '/api/v1/namespaces/shop/services';
const SLICES = '/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices';
const PORTS = { TCP: { port: 80, target: 8080, node: 30_080 }, UDP: { port: 53, target: 5353, node: 30_053 } } as const;
const OWN = { 4: NODE_ADDRESSES[0], 6: NODE_ADDRESSES[1] } as const;
const EXTERNAL = { 4: '203.0.113.20', 6: '2001:db8:1::20' } as const;
const CLIENT = { 4: '192.0.2.50', 6: 'fd00::50' } as const;
const BALANCER = { 4: '203.0.113.30', 6: '2001:db8:1::30', ports: [82, 83] } as const;
const HEALTH = 32_090;
const ALL = ['TCP IPv4', 'TCP IPv6', 'UDP IPv4', 'UDP IPv6'].flatMap((each) => [`${each} node`, `${each} external`]);

describe('Services for clients outside, with `--services moat` (needs root)', {
  skip: needsRoot.skip || needsApiServer.skip,
}, () => {
  let bed: ApiBed;
  let own: readonly string[] = [];

  before(async () => {
    bed = await ApiBed.start('apioutside', ['--services', 'moat']);
    makeClient();
    await bed.startAgent();
    own = await bed.run('db');
    await bed.plane.do('POST', SERVICES, {
      metadata: { name: 'db' },
      spec: {
        ...{ type: 'NodePort', externalTrafficPolicy: 'Local', ipFamilyPolicy: 'RequireDualStack' },
        externalIPs: [EXTERNAL[4], EXTERNAL[6]],
        ports: (['TCP', 'UDP'] as const).map((each) => ({
          ...{ name: each.toLowerCase(), protocol: each, port: PORTS[each].port },
          ...{ targetPort: PORTS[each].target, nodePort: PORTS[each].node },
        })),
      },
    });
  });
  after(() => bed?.destroy());

  /** A machine on the node's link, which sends external addresses to the node. */
  function makeClient(): void {
    bed.node.addNetns('client');
    bed.node.ip('node', `link add up1 type veth peer name eth0 netns ${bed.node.prefix}-client`);
    for (const each of [`${OWN[4]}/32`, `${OWN[6]}/128`]) bed.node.ip('node', `addr del ${each} dev lo`);
    for (const each of [`addr add ${OWN[4]}/24 dev up1`, `addr add ${OWN[6]}/64 nodad dev up1`, 'link set up1 up']) {
      bed.node.ip('node', each);
    }
    for (const each of [
      ...[`addr add ${CLIENT[4]}/24 dev eth0`, `addr add ${CLIENT[6]}/64 nodad dev eth0`, 'link set eth0 up'],
      ...[`route add default via ${OWN[4]}`, `-6 route add default via ${OWN[6]}`],
    ]) {
      bed.node.ip('client', each);
    }
  }

  async function setEndpoint(node: string): Promise<void> {
    for (const family of [4, 6] as const) {
      const name = `db-${family}`;
      const slice = {
        metadata: { name, labels: { 'kubernetes.io/service-name': 'db' } },
        addressType: `IPv${family}`,
        ports: (['TCP', 'UDP'] as const).map((each) => {
          return { name: each.toLowerCase(), protocol: each, port: PORTS[each].target };
        }),
        endpoints: [{ addresses: [own[family === 4 ? 0 : 1]], conditions: { ready: true }, nodeName: node }],
      };
      const { status } = await bed.plane.ask('GET', `${SLICES}/${name}`);
      if (status === 200) await bed.plane.do('PATCH', `${SLICES}/${name}`, slice);
      else await bed.plane.do('POST', SLICES, slice);
    }
  }

  /** The pod of this node serves a Service's ports there, by their names. */
  async function makeSlices(name: string, listens: Readonly<Record<string, number>>): Promise<void> {
    for (const family of [4, 6] as const) {
      const metadata = { name: `${name}-${family}`, labels: { 'kubernetes.io/service-name': name } };
      const endpoints = [{ addresses: [own[family === 4 ? 0 : 1]], conditions: { ready: true }, nodeName: NODE }];
      const ports = Object.entries(listens).map(([port, at]) => ({ name: port, protocol: 'TCP', port: at }));
      await bed.plane.do('POST', SLICES, { metadata, addressType: `IPv${family}`, ports, endpoints });
    }
  }

  /** Status and body of what a client outside is answered there; '' where nobody listens. */
  function askHealth(host: string): string {
    const url = `http://${host.includes(':') ? `[${host}]` : host}:${HEALTH}/`;
    const script = `fetch('${url}').then(async (r) => console.log(r.status, await r.text()), () => undefined)`;
    const args = ['netns', 'exec', `${bed.node.prefix}-client`, process.execPath, '-e', script];
    return execFileSync('ip', args, { encoding: 'utf8' }).trim();
  }

  const talkOf = (protocol: 'TCP' | 'UDP', family: 4 | 6, at: 'node' | 'external'): Talk => ({
    protocol: protocol === 'TCP' ? TCP : UDP,
    ...{ client: bed.node.netns('client'), server: bed.node.netns('db') },
    to:
      at === 'node'
        ? { address: address(OWN[family]), port: PORTS[protocol].node }
        : { address: address(EXTERNAL[family]), port: PORTS[protocol].port },
    at: { address: address(own[family === 4 ? 0 : 1] ?? ''), port: PORTS[protocol].target },
  });
  const reached = (): readonly string[] =>
    (['TCP', 'UDP'] as const).flatMap((protocol) =>
      ([4, 6] as const).flatMap((family) =>
        (['node', 'external'] as const)
          .filter((at) => talks(talkOf(protocol, family, at)))
          .map((at) => `${protocol} IPv${family} ${at}`),
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

  it('with endpoints of another node alone reach nobody where externalTrafficPolicy is Local', async () => {
    await bed.known(() => setEndpoint('node-b'));
    assert.deepEqual(reached(), []);
  });

  it('with an endpoint of this node reach it by TCP and UDP, both families, and it sees who asks', async () => {
    await setEndpoint(NODE);
    await soon(ALL);
    for (const family of [4, 6] as const) {
      const talk = new Conversation(talkOf('UDP', family, 'node'));
      assert.ok(talk.exchange(3));
      assert.ok(talk.seen);
      assert.equal(formatAddress(talk.seen), CLIENT[family]);
      talk.close();
    }
  });

  it('are let in at a balancer’s address by its ranges, and nobody else is', async () => {
    const spec = {
      ...{ type: 'LoadBalancer', externalTrafficPolicy: 'Local', ipFamilyPolicy: 'RequireDualStack' },
      ports: BALANCER.ports.map((port) => ({ name: `p${port}`, protocol: 'TCP', port, targetPort: port + 8000 })),
    };
    await bed.plane.do('POST', SERVICES, { metadata: { name: 'lb' }, spec });
    const ingress = [{ ip: BALANCER[4] }, { ip: BALANCER[6] }];
    await bed.plane.do('PATCH', `${SERVICES}/lb/status`, { status: { loadBalancer: { ingress } } });
    await makeSlices('lb', Object.fromEntries(BALANCER.ports.map((port) => [`p${port}`, port + 8000])));
    const balancer = (family: 4 | 6, port: number = BALANCER.ports[0]): Talk => ({
      ...talkOf('TCP', family, 'external'),
      to: { address: address(BALANCER[family]), port },
      at: { address: address(own[family === 4 ? 0 : 1] ?? ''), port: port + 8000 },
    });
    const lets = async (ranges: readonly string[], wanted: readonly boolean[]): Promise<void> => {
      await bed.plane.do('PATCH', `${SERVICES}/lb`, { spec: { loadBalancerSourceRanges: ranges } });
      let found: readonly boolean[] = [];
      const holds = (): boolean => {
        found = ([4, 6] as const).map((family) => talks(balancer(family)));
        return found.join() === wanted.join();
      };
      assert.ok(await bed.node.soon(holds), `${ranges}: ${found}`);
    };
    await lets([], [true, true]);
    const open = new Conversation(balancer(4, BALANCER.ports[1]));
    assert.ok(open.exchange(1));
    await lets(['198.51.100.0/24', `${CLIENT[6]}/128`], [false, true]);
    assert.ok(open.exchange(1), 'what is open goes on');
    open.close();
    await lets([`${CLIENT[4]}/32`], [true, false]);
    await bed.plane.do('DELETE', `${SERVICES}/lb`);
    for (const family of [4, 6]) await bed.plane.do('DELETE', `${SLICES}/lb-${family}`);
  });

  it('have a balancer told of the node’s own endpoints at the health check port, and of none where there are none', async () => {
    const spec = {
      ...{ type: 'LoadBalancer', externalTrafficPolicy: 'Local', healthCheckNodePort: HEALTH },
      ...{ ipFamilyPolicy: 'RequireDualStack', ports: [{ name: 'tcp', protocol: 'TCP', port: 81, targetPort: 8080 }] },
    };
    await bed.plane.do('POST', SERVICES, { metadata: { name: 'lb' }, spec });
    const told = async (count: number): Promise<void> => {
      let seen: readonly string[] = [];
      const holds = (): boolean => {
        seen = ([4, 6] as const).map((family) => askHealth(OWN[family]));
        return seen.every(
          (text) => text.includes(`"localEndpoints":${count},`) && text.startsWith(count > 0 ? '200' : '503'),
        );
      };
      assert.ok(await bed.node.soon(holds), seen.join());
    };
    await told(0);
    await makeSlices('lb', { tcp: 8080 });
    await told(1);
    await bed.plane.do('DELETE', `${SERVICES}/lb`);
    assert.ok(await bed.node.soon(() => askHealth(OWN[4]) === ''), 'nobody answers for a Service that is gone');
  });

  it('are judged by policy as their own client asks the pod', async () => {
    const from = (cidrs: readonly string[]): object => ({
      podSelector: { matchLabels: { app: 'db' } },
      policyTypes: ['Ingress'],
      ingress: [{ from: cidrs.map((cidr) => ({ ipBlock: { cidr } })) }],
    });
    await bed.makePolicy('db', from(['198.51.100.0/24', '2001:db8:9::/64']));
    await soon([]);
    await bed.changePolicy('db', from([`${CLIENT[4]}/32`, `${CLIENT[6]}/128`]));
    await soon(ALL);
    await bed.deletePolicy('db');
  });

  it('go on while no agent runs, and connections stand over the next one’s start', async () => {
    await bed.node.killAgent();
    assert.deepEqual(reached(), ALL);
    const talk = new Conversation(talkOf('TCP', 4, 'node'));
    assert.ok(talk.exchange(1));
    await bed.startAgent();
    assert.ok(talk.exchange(1));
    talk.close();
    await soon(ALL);
  });

  it('are reached by nobody with the hooks taken off', async () => {
    await bed.node.detachHooks();
    assert.deepEqual(reached(), []);
  });
});

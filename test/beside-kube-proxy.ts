// Services that the real kube-proxy serves by nftables, for pods that Moat's agent judges: what kube-proxy translated is translated
// back, policy judges the backend, and without kube-proxy's rules nobody answers. `make test-kube-proxy`; needs root.
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { TCP, UDP } from '#net/protocol.ts';
import { ApiBed, egressTo, ingressFrom } from './support/api-bed.ts';
import { Conversation, type Talk, talks } from './support/conversation.ts';
import { KUBERNETES_BIN } from './support/needs.ts';
import { NODE } from './support/node-bed.ts';
import { address } from './support/pod-bed.ts';

const PORTS = { TCP: { port: 80, target: 8080 }, UDP: { port: 53, target: 5353 } } as const;
const CLUSTER = { 4: '10.96.1.10', 6: 'fd96::110' } as const;
const FAMILIES = [4, 6] as const;
const PROTOCOLS = ['TCP', 'UDP'] as const;
const ALL = ['TCP IPv4', 'TCP IPv6', 'UDP IPv4', 'UDP IPv6'];
/** Messages each way of one conversation: most of them are of a flow that is open, which takes the shortest way there is. */
const TIMES = 50;
/** What comes from the backend's port is no flow of the stack's, and so is nothing that it would translate back. */
const UNTRACKED = `table inet moattest {
  chain early { type filter hook prerouting priority raw; meta l4proto { tcp, udp } th sport { 8080, 5353 } notrack; }
}`;

describe('Services of kube-proxy (nftables) beside an agent (needs root)', () => {
  let bed: ApiBed;
  let proxy: ChildProcess | null = null;
  const addresses = new Map<string, readonly string[]>();

  before(async () => {
    bed = await ApiBed.start('kubeproxy');
    await bed.startAgent();
    for (const name of ['web', 'db', 'other', 'quiet']) addresses.set(name, await bed.run(name));
    await bed.plane.do('POST', '/api/v1/namespaces/shop/services', { metadata: { name: 'db' }, spec: service() });
    for (const family of FAMILIES) {
      await bed.plane.do('POST', '/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices', slice(family));
    }
  });
  after(async () => {
    await endProxy();
    await bed?.destroy();
  });

  const addressOf = (pod: string, family: 4 | 6): string => addresses.get(pod)?.[family === 4 ? 0 : 1] ?? '';
  const portOf = (protocol: 'TCP' | 'UDP'): object => ({ name: protocol.toLowerCase(), protocol });
  const service = (): object => ({
    ...{ clusterIP: CLUSTER[4], clusterIPs: [CLUSTER[4], CLUSTER[6]], ipFamilyPolicy: 'RequireDualStack' },
    ports: PROTOCOLS.map((each) => ({ ...portOf(each), port: PORTS[each].port, targetPort: PORTS[each].target })),
  });
  const slice = (family: 4 | 6): object => ({
    metadata: { name: `db-${family}`, labels: { 'kubernetes.io/service-name': 'db' } },
    addressType: `IPv${family}`,
    ports: PROTOCOLS.map((each) => ({ ...portOf(each), port: PORTS[each].target })),
    endpoints: [{ addresses: [addressOf('db', family)], conditions: { ready: true }, nodeName: NODE }],
  });

  const startProxy = (): void => {
    const log = openSync(join(bed.plane.folder, 'kube-proxy.log'), 'a');
    const args = [
      ...['--proxy-mode=nftables', `--hostname-override=${NODE}`, `--kubeconfig=${bed.plane.kubeconfig('admin')}`],
      ...['--detect-local-mode=ClusterCIDR', '--cluster-cidr=10.90.0.0/16,fd90::/48'],
      // The node's settings are this machine's.
      ...['--conntrack-max-per-core=0', '--conntrack-min=0', '--conntrack-tcp-timeout-established=0s'],
      ...['--conntrack-tcp-timeout-close-wait=0s', '--v=2'],
    ];
    proxy = spawn(join(KUBERNETES_BIN, 'kube-proxy'), args, { stdio: ['ignore', log, log] });
    closeSync(log);
  };
  const endProxy = async (): Promise<void> => {
    if (proxy === null || proxy.exitCode !== null) return;
    const gone = once(proxy, 'exit');
    proxy.kill('SIGKILL');
    await gone;
    proxy = null;
  };
  const rules = (): string => execFileSync('nft', ['list', 'tables'], { encoding: 'utf8' });
  const nft = (text: string): void => void execFileSync('nft', ['-f', '-'], { input: text });
  const talkOf = (client: string, protocol: 'TCP' | 'UDP', family: 4 | 6): Talk => ({
    protocol: protocol === 'TCP' ? TCP : UDP,
    ...{ client: bed.node.netns(client), server: bed.node.netns('db') },
    to: { address: address(CLUSTER[family]), port: PORTS[protocol].port },
    at: { address: address(addressOf('db', family)), port: PORTS[protocol].target },
  });
  const reached = (client: string): readonly string[] =>
    PROTOCOLS.flatMap((protocol) =>
      FAMILIES.filter((family) => talks(talkOf(client, protocol, family))).map((family) => `${protocol} IPv${family}`),
    );
  const soon = async (client: string, wanted: readonly string[]): Promise<void> => {
    let found: readonly string[] = [];
    const holds = async (): Promise<boolean> => {
      found = reached(client);
      return found.join() === wanted.join();
    };
    if (await bed.node.soon(holds)) return;
    const said = readFileSync(join(bed.plane.folder, 'kube-proxy.log'), 'utf8').slice(-3000);
    assert.fail(`${client}: ${found}, and not ${wanted}; kube-proxy:\n${said}`);
  };

  it('are nobody’s before kube-proxy runs: Moat leaves them alone', () => {
    assert.deepEqual(reached('web'), []);
  });

  it('reach a backend of the same node, whose answers come from the Service, however long the flow', async () => {
    startProxy();
    await soon('web', ALL);
    assert.match(rules(), /kube-proxy/);
    for (const protocol of PROTOCOLS) {
      for (const family of FAMILIES) {
        const talk = new Conversation(talkOf('web', protocol, family));
        assert.ok(talk.exchange(TIMES), `${protocol} IPv${family}`);
        talk.close();
      }
    }
  });

  it('are judged by policy as their backend', async () => {
    await bed.makePolicy('db', ingressFrom('db', 'web'));
    await bed.makePolicy('quiet', egressTo('quiet', 'web'));
    await soon('other', []);
    await soon('quiet', []);
    await soon('web', ALL);
    await bed.changePolicy('db', ingressFrom('db', 'other'));
    await soon('web', []);
    await soon('other', ALL);
    for (const name of ['db', 'quiet']) await bed.deletePolicy(name);
    await soon('web', ALL);
  });

  it('are to the egress rules of who asks them an address outside and their backend, and both must be allowed', async () => {
    await bed.makePolicy('quiet', egressTo('quiet', 'db'));
    const direct = (protocol: 'TCP' | 'UDP', family: 4 | 6): boolean => {
      const talk = talkOf('quiet', protocol, family);
      return talks({ ...talk, to: talk.at });
    };
    assert.ok(await bed.node.soon(() => reached('quiet').length === 0));
    for (const protocol of PROTOCOLS) for (const family of FAMILIES) assert.ok(direct(protocol, family), protocol);
    const blocks = ['10.96.0.0/16', 'fd96::/112'].map((cidr) => ({ ipBlock: { cidr } }));
    await bed.changePolicy('quiet', { egress: [{ to: blocks }] });
    assert.ok(await bed.node.soon(() => !direct('TCP', 4)));
    assert.deepEqual(reached('quiet'), []);
    const db = { podSelector: { matchLabels: { app: 'db' } } };
    await bed.changePolicy('quiet', { egress: [{ to: [...blocks, db] }] });
    await soon('quiet', ALL);
    await bed.deletePolicy('quiet');
  });

  it('keep their connections while the agent is killed, and with the next one', async () => {
    const standing = PROTOCOLS.flatMap((protocol) =>
      FAMILIES.map((family) => new Conversation(talkOf('web', protocol, family))),
    );
    const speak = (): boolean => standing.every((each) => each.exchange(TIMES));
    assert.ok(speak());
    await bed.node.killAgent();
    assert.ok(speak(), 'without an agent');
    await bed.startAgent();
    assert.ok(speak(), 'with the next one');
    for (const each of standing) each.close();
  });

  it('are not reached where the stack does not translate answers back: that is what brings them', async () => {
    nft(UNTRACKED);
    await soon('web', []);
    nft('delete table inet moattest');
    await soon('web', ALL);
  });

  it('are nobody’s without kube-proxy’s rules', async () => {
    await endProxy();
    assert.deepEqual(reached('web'), ALL, 'its rules stay');
    nft('delete table ip kube-proxy\ndelete table ip6 kube-proxy');
    await soon('web', []);
  });
});

// Real packets against the reference on the same world: 27 pods, 6 ports, both families, hostNetwork, outside.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { planOf } from '#cli/plan.ts';
import { judge } from '#datapath/reference/verdict.ts';
import { formatAddress, parseAddress } from '#net/address.ts';
import { ICMP, SCTP, TCP, UDP } from '#net/protocol.ts';
import { STANDARD_SEMANTICS } from '#policy/world.ts';
import { clusterOf } from '#test/support/cluster.ts';
import { needsRoot } from '#test/support/needs.ts';

const PODS = 27;
const PORTS = [
  { protocol: TCP, port: 80 },
  { protocol: TCP, port: 8080 },
  { protocol: UDP, port: 80 },
  { protocol: UDP, port: 53 },
  { protocol: SCTP, port: 80 },
  { protocol: ICMP, port: 8 << 8 },
];

/** Pod 3 is IPv6 alone, 4 has both, 5 and 6 live on their nodes' network, 7 is finished. */
function pod(index: number): string {
  const blocks = { 3: ['fd10::3'], 4: ['10.9.0.4', 'fd10::4'], 8: ['fd10::8', '10.9.0.8'] }[index];
  const status = {
    ...(blocks === undefined ? {} : { podIP: blocks[0], podIPs: blocks.map((ip) => ({ ip })) }),
    phase: index === 7 ? 'Succeeded' : 'Running',
  };
  const spec = {
    nodeName: index % 2 === 0 ? 'one' : 'two',
    hostNetwork: index === 5 || index === 6,
    containers: [{ name: 'main', image: 'none', ports: [{ name: 'web', containerPort: index % 3 === 0 ? 8080 : 80 }] }],
  };
  const labels = { app: `a${index % 4}`, tier: index % 5 === 0 ? 'front' : 'back' };
  const metadata = { namespace: `n${index % 3}`, name: `p${index}`, labels };
  return JSON.stringify({ apiVersion: 'v1', kind: 'Pod', metadata, spec, status });
}

function policy(name: string, namespace: string, spec: unknown): string {
  const metadata = { namespace, name };
  return JSON.stringify({ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata, spec });
}

const front = { podSelector: { matchLabels: { tier: 'front' } } };
const POLICIES = [
  policy('named', 'n0', {
    podSelector: {},
    ingress: [{ from: [{ namespaceSelector: {}, ...front }], ports: [{ port: 'web' }] }],
  }),
  policy('out', 'n1', {
    podSelector: { matchExpressions: [{ key: 'app', operator: 'NotIn', values: ['a1'] }] },
    policyTypes: ['Egress'],
    egress: [
      { to: [{ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'n2' } } }] },
      { ports: [{ port: 53, protocol: 'UDP' }] },
      {
        to: [
          { ipBlock: { cidr: '198.51.100.0/24', except: ['198.51.100.8/32'] } },
          { ipBlock: { cidr: 'fd10::/126' } },
        ],
      },
    ],
  }),
  policy('closed', 'n2', { podSelector: { matchLabels: { app: 'a2' } }, policyTypes: ['Ingress', 'Egress'] }),
  policy('sctp', 'n2', {
    podSelector: { matchLabels: { app: 'a1' } },
    ingress: [
      {
        ports: [
          { port: 80, protocol: 'SCTP' },
          { port: 79, endPort: 81 },
        ],
      },
      { from: [{ ipBlock: { cidr: '198.51.100.8/31' } }] },
    ],
  }),
];

const NODES = [
  ['one', '172.30.0.1', 'fd30::1'],
  ['two', '172.30.0.2', 'fd30::2'],
].map(([name, ...ips]) => {
  const status = { addresses: ips.map((address) => ({ type: 'InternalIP', address })) };
  return JSON.stringify({ apiVersion: 'v1', kind: 'Node', metadata: { name }, status });
});

test(
  'needs root: packets and the reference agree on every verdict and on the rule that decided',
  needsRoot,
  async (t) => {
    const pods = Array.from({ length: PODS }, (_, index) => pod(index));
    const text = [...NODES, ...pods, ...POLICIES].join('\n---\n');
    const { sandbox } = await clusterOf(t, { 'all.yaml': text });
    // The last one looks like a pod that nobody knows: an address of node one's block.
    const block = sandbox.world.nodes.get('one')?.podCidrs[0]?.address;
    assert.ok(block);
    const stranger = formatAddress({ family: 4, words: [(block.words[0] ?? 0) + 250] });
    const externals = ['198.51.100.7', '198.51.100.8', '2001:db8::7', stranger].map((one) => {
      const address = parseAddress(one);
      assert.ok(address);
      return address;
    });
    const plan = planOf(sandbox.world, STANDARD_SEMANTICS);
    const startedMs = performance.now();
    const { rows, errors, flows, secondFamily } = await sandbox.probe({ ports: PORTS, externals });
    const tookSeconds = (performance.now() - startedMs) / 1000;
    t.diagnostic(`${rows.length} connections in ${tookSeconds.toFixed(1)} s`);
    assert.ok(tookSeconds <= 20, 'as fast as people were promised');
    assert.deepEqual(errors, []);
    const wrong = rows.filter((row, index) => {
      const flow = flows[index];
      assert.ok(flow);
      const expected = judge(plan, flow);
      const leg = expected.decidedBy;
      const unknown = leg !== null && expected[leg].reason === 'peer-unknown';
      const reason = unknown ? 'peer-unknown' : undefined;
      const same = row.verdict === expected.verdict && row.decidedBy === leg && row.reason === reason;
      return !same || (leg !== null && row.rule[leg] !== expected[leg].rule);
    });
    assert.deepEqual(wrong, []);
    assert.ok(rows.some((row) => row.reason === 'peer-unknown' && row.from === stranger));
    // Pods 4 and 8 speak both families: three protocols on port 80, twice.
    const both = [...rows, ...secondFamily].filter(
      (row) => row.from === 'n1/p4' && row.to === 'n2/p8' && row.port === 80,
    );
    assert.deepEqual(both.map((row) => row.protocol).sort(), ['SCTP', 'SCTP', 'TCP', 'TCP', 'UDP', 'UDP']);
    assert.ok(
      rows.length > 3900 && rows.some((row) => row.verdict === 'deny') && rows.some((row) => row.verdict === 'allow'),
    );
  },
);

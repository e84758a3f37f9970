// Random policies that reach the odd corners: absent and empty parts, exceptions, named ports, other tiers.
import fc from 'fast-check';
import { type Cidr, cidrCovers, formatCidr, parseCidr } from '#net/cidr.ts';
import { ICMP, type Protocol, SCTP, TCP, UDP } from '#net/protocol.ts';
import {
  type Action,
  DEFAULT_TIER,
  type NamespaceSelector,
  type Peer,
  type Peers,
  type Policy,
  type Port,
  type Ports,
  policyKey,
  type Rule,
  type RuleId,
  type Source,
  type Tier,
} from '#policy/model.ts';
import { EVERYTHING, type LabelSelector, type Labels, type Requirement } from '#policy/selector.ts';

export const NAMESPACES: readonly string[] = ['blue', 'green', 'red'];
export const PORT_NAMES: readonly string[] = ['http', 'dns', 'constructor'];
/** Ports that rules and flows use: few, with neighbours, so that ranges meet their edges. */
export const PORTS: readonly number[] = [0, 79, 80, 81, 8080, 65535];
export const PROTOCOLS: readonly Protocol[] = [TCP, TCP, TCP, UDP, SCTP, ICMP, 47];

const CIDRS: readonly Cidr[] = [
  '0.0.0.0/0',
  '10.0.0.0/8',
  '10.0.1.0/24',
  '10.0.1.0/31',
  '10.0.1.2/32',
  '10.0.2.0/24',
  '10.0.3.128/25',
  '192.168.0.0/16',
  '192.168.0.1/32',
  '8.8.8.0/24',
  '::/0',
  'fd00::/16',
  'fd00:0:0:1::/64',
  'fd00:0:0:1::2/128',
  'fd00:0:0:3::/65',
  '2001:db8::/32',
].map(cidr);

/** Tiers of hand-made policies: two in the admin layer (the first isolates, like a Calico tier), two after the default. */
const TIERS: readonly Tier[] = [
  { name: 'calico', position: 100, end: 'deny' },
  { name: 'admin', position: 1000, end: 'none' },
  DEFAULT_TIER,
  { name: 'late', position: 2_000_000, end: 'deny' },
  { name: 'baseline', position: 10_000_000, end: 'none' },
];

function cidr(text: string): Cidr {
  const parsed = parseCidr(text);
  if (parsed === null) throw new Error(`not a CIDR: ${text}`);
  return parsed.cidr;
}

const labelKey: fc.Arbitrary<string> = fc.constantFrom('app', 'app', 'app', 'tier', 'constructor');
const labelValue: fc.Arbitrary<string> = fc.constantFrom('web', 'web', 'web', 'db', 'db', '');

/** Few keys and values, so that selectors match often. */
export const arbitraryLabels: fc.Arbitrary<Labels> = fc.dictionary(labelKey, labelValue, {
  minKeys: 0,
  maxKeys: 2,
  size: 'max',
});

/** A list that is empty in `none` of ten cases. */
function listOf<Value>(
  value: fc.Arbitrary<Value>,
  { none, upTo }: { readonly none: number; readonly upTo: number },
): fc.Arbitrary<Value[]> {
  const some = fc.array(value, { minLength: 1, maxLength: upTo, size: 'max' });
  return fc.oneof({ weight: none, arbitrary: fc.constant<Value[]>([]) }, { weight: 10 - none, arbitrary: some });
}

const requirement: fc.Arbitrary<Requirement> = fc.oneof(
  fc.record({
    op: fc.constantFrom('In' as const, 'NotIn' as const),
    key: labelKey,
    values: listOf(labelValue, { none: 1, upTo: 2 }),
  }),
  fc.record({ op: fc.constantFrom('Exists' as const, 'DoesNotExist' as const), key: labelKey }),
);

export const arbitrarySelector: fc.Arbitrary<LabelSelector> = fc.record({
  requirements: listOf(requirement, { none: 4, upTo: 2 }),
});

const namespaces: fc.Arbitrary<NamespaceSelector> = fc.oneof(
  fc.record({ kind: fc.constant('named' as const), name: fc.constantFrom(...NAMESPACES) }),
  fc.record({ kind: fc.constant('labelled' as const), selector: arbitrarySelector }),
);

const cidrPeer: fc.Arbitrary<Peer> = fc
  .record({ cidr: fc.constantFrom(...CIDRS), except: fc.subarray([...CIDRS], { maxLength: 3 }) })
  .map(({ cidr: block, except }) => ({
    kind: 'cidr',
    cidr: block,
    except: except.filter((hole) => cidrCovers(block, hole) && formatCidr(hole) !== formatCidr(block)),
  }));

const peer: fc.Arbitrary<Peer> = fc.oneof(
  fc.record({ kind: fc.constant('pods' as const), namespaces, pods: arbitrarySelector }),
  cidrPeer,
);

const peers: fc.Arbitrary<Peers> = fc.oneof(
  { weight: 1, arbitrary: fc.constant<Peers>({ kind: 'any' }) },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant('these' as const), peers: listOf(peer, { none: 1, upTo: 3 }) }),
  },
);

const portProtocol: fc.Arbitrary<Protocol> = fc.constantFrom(TCP, TCP, TCP, UDP, SCTP, ICMP);

const port: fc.Arbitrary<Port> = fc.oneof(
  fc
    .tuple(portProtocol, fc.constantFrom(...PORTS), fc.constantFrom(...PORTS))
    .map(([protocol, a, b]): Port => ({ kind: 'range', protocol, first: Math.min(a, b), last: Math.max(a, b) })),
  fc
    .tuple(portProtocol, fc.constantFrom(...PORTS))
    .map(([protocol, number]): Port => ({ kind: 'range', protocol, first: number, last: number })),
  portProtocol.map((protocol): Port => ({ kind: 'range', protocol, first: 0, last: 65535 })),
  fc.record({
    kind: fc.constant('named' as const),
    protocol: fc.constantFrom(TCP, UDP),
    name: fc.constantFrom(...PORT_NAMES),
  }),
);

const ports: fc.Arbitrary<Ports> = fc.oneof(
  { weight: 1, arbitrary: fc.constant<Ports>({ kind: 'any' }) },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant('these' as const), ports: listOf(port, { none: 1, upTo: 3 }) }),
  },
);

type RuleBody = Pick<Rule, 'action' | 'peers' | 'ports'>;

function rules(action: fc.Arbitrary<Action>): fc.Arbitrary<RuleBody[]> {
  return listOf(fc.record({ action, peers, ports }), { none: 2, upTo: 3 });
}

const anyAction: fc.Arbitrary<Action> = fc.constantFrom('allow', 'deny', 'pass', 'reject');

/** Subjects are wide: a flow that no policy is about tests little. */
const subjectPods: fc.Arbitrary<LabelSelector> = fc.oneof(
  { weight: 2, arbitrary: fc.constant(EVERYTHING) },
  { weight: 1, arbitrary: arbitrarySelector },
);

/** What a NetworkPolicy lowers to: allows only, in the default tier. */
const networkPolicy = fc.record({
  tier: fc.constant(DEFAULT_TIER),
  namespaces: fc.record({ kind: fc.constant('named' as const), name: fc.constantFrom(...NAMESPACES) }),
  pods: subjectPods,
  isolates: fc.record({ egress: fc.boolean(), ingress: fc.boolean() }),
  egress: rules(fc.constant('allow')),
  ingress: rules(fc.constant('allow')),
});

/** What other dialects may lower to: any tier, any action. */
const tieredPolicy = fc
  .record({
    tier: fc.constantFrom(...TIERS),
    namespaces,
    pods: subjectPods,
    isolates: fc.record({ egress: fc.boolean(), ingress: fc.boolean() }),
    egress: rules(anyAction),
    ingress: rules(anyAction),
    isOfCluster: fc.boolean(),
  })
  .map(({ isOfCluster, ...body }) => {
    const { namespaces: own } = body;
    return { ...body, home: own.kind === 'named' && !isOfCluster ? own.name : '' };
  });

type Body = Omit<Policy, 'key' | 'order' | 'subject' | 'source' | 'egress' | 'ingress'> & {
  readonly namespaces: NamespaceSelector;
  /** Its own; '' for one of the cluster. */
  readonly home: string;
  readonly pods: LabelSelector;
  readonly egress: readonly RuleBody[];
  readonly ingress: readonly RuleBody[];
};

/** Policies by name p0…p5: the same name again is another form of the same policy. */
export function arbitraryPolicy(kind: 'network' | 'tiered'): fc.Arbitrary<Policy> {
  const body: fc.Arbitrary<Body> = kind === 'network' ? networkPolicy.map(atHome) : tieredPolicy;
  return fc.tuple(fc.nat({ max: 5 }), fc.nat({ max: 2 }), body).map(([name, line, value]) => build(name, line, value));
}

function atHome<One extends { readonly namespaces: { readonly name: string } }>(body: One): One & { home: string } {
  return { ...body, home: body.namespaces.name };
}

function build(number: number, line: number, body: Body): Policy {
  const { tier, isolates, home } = body;
  const source: Source = {
    dialect: 'test',
    kind: 'Policy',
    namespace: home,
    name: `p${number}`,
    path: 'spec',
    file: 'test.yaml',
    line,
  };
  const rule = (direction: string) => (one: RuleBody, index: number) => {
    const id = `policy/${home}/p${number}/${direction}/${index}` as RuleId;
    return { ...one, id, source: { ...source, path: `spec.${direction}[${index}]` } };
  };
  return {
    key: policyKey('policy', home, `p${number}`),
    tier,
    order: `o${number % 2}`,
    subject: { namespaces: body.namespaces, pods: body.pods },
    isolates,
    egress: body.egress.map(rule('egress')),
    ingress: body.ingress.map(rule('ingress')),
    source,
  };
}

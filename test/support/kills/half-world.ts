// Worlds before and after a change that an agent makes in slices: hundreds of peers, some of which are pods of the bed.
import { parseAddress } from '#net/address.ts';
import { TCP, UDP } from '#net/protocol.ts';
import { DEFAULT_TIER, type Policy, policyKey, type Rule, type RuleId } from '#policy/model.ts';
import type { LabelSelector } from '#policy/selector.ts';
import { type Pod, podKey, type World } from '#policy/world.ts';
import { NAMESPACES } from '../arbitrary-policy.ts';
import type { BedPod } from '../pod-bed.ts';
import { firstWorld } from './world.ts';

/** Of CORE: the pod that the changing policies select. */
export const SUBJECT = 1;
/** Peers of the change, each with a label of its own. */
const PEERS = 400;
/** Where among them the pods of the bed are: the first ones and the last ones never go in one slice. */
const PLACES = [0, 21, 120, 231, 398, 399] as const;
const SPACE = NAMESPACES[0] ?? '';

/** What becomes of each port is `evaluate`'s to say. */
export const PORTS = [8000, 8001, 8002, 8003] as const;
const [FIRST, BOTH, SECOND] = PORTS;
/** Open before and after. */
export const KEPT_PORT: number = BOTH;

/** `shows`: packets of some peers are judged by it between its slices; otherwise those only prepare it. */
export type Change = {
  readonly name: string;
  readonly before: readonly Policy[];
  readonly after: readonly Policy[];
  readonly shows: boolean;
};

const EACH: readonly LabelSelector[] = Array.from({ length: PEERS }, (_, at) => only('number', `n${at}`));
const ALL: LabelSelector = { requirements: [{ op: 'Exists', key: 'number' }] };

/** Changes that come into force slice by slice (docs/decisions/0020), each by another way. */
export const CHANGES: readonly Change[] = [
  {
    name: 'a policy of hundreds of identities that changes',
    before: [policy('each', EACH, [FIRST, BOTH])],
    after: [policy('each', EACH, [BOTH, SECOND])],
    shows: true,
  },
  {
    name: 'a policy that is added, by a selector that nobody asked for before',
    before: [policy('all', [ALL], [BOTH])],
    after: [policy('all', [ALL], [BOTH]), policy('half', [only('group', 'g0')], [SECOND])],
    shows: true,
  },
  {
    name: 'a policy that from now on selects others',
    before: [policy('all', [ALL], [BOTH]), policy('some', [ALL], [FIRST])],
    after: [policy('all', [ALL], [BOTH]), policy('some', [only('group', 'g0')], [FIRST, SECOND])],
    shows: false,
  },
];

/** How many pods of the bed are peers; one more is a stranger. */
export const BED_PEERS: number = PLACES.length;

/** The first world with the peers, of which some are these, and with policies about them. */
export function halfWorld(policies: readonly Policy[], bed: readonly BedPod[]): World {
  const world = firstWorld();
  const inBed = new Map(PLACES.map((place, at) => [place as number, bed[at]]));
  const peers = Array.from({ length: PEERS }, (_, at) => peer(at, inBed.get(at)));
  return {
    ...world,
    pods: new Map([...world.pods, ...peers.map((pod) => [pod.key, pod] as const)]),
    policies: new Map([...world.policies, ...policies.map((one) => [one.key, one] as const)]),
  };
}

/** On another node. */
function peer(at: number, pod: BedPod | undefined): Pod {
  const far = parseAddress(`10.8.${at >> 8}.${at & 255}`);
  if (far === null) throw new Error('no address');
  const name = `peer${at}`;
  return {
    ...{ key: podKey(SPACE, name), namespace: SPACE, name, node: 'node-b', addresses: [pod?.v4 ?? far] },
    labels: { number: `n${at}`, group: `g${at % 2}` },
    ...{ ports: [], hostNetwork: false, finished: false, workload: { kind: 'Pod', namespace: SPACE, name } },
  };
}

function policy(name: string, selectors: readonly LabelSelector[], ports: readonly number[]): Policy {
  const source = { dialect: 'test', kind: 'Policy', namespace: '', name, path: 'spec', file: 'half', line: 1 } as const;
  const namespaces = { kind: 'named', name: SPACE } as const;
  const rule: Rule = {
    action: 'allow',
    peers: { kind: 'these', peers: selectors.map((pods) => ({ kind: 'pods', namespaces, pods })) },
    ports: {
      kind: 'these',
      ports: ports.flatMap((port) => [TCP, UDP].map((protocol) => range(protocol, port))),
    },
    id: `policy/${name}/ingress/0` as RuleId,
    source,
  };
  return {
    ...{ key: policyKey('policy', '', name), tier: DEFAULT_TIER, order: name, source, egress: [], ingress: [rule] },
    subject: { namespaces, pods: only('tier', 'web') },
    isolates: { egress: false, ingress: true },
  };
}

function range(protocol: typeof TCP | typeof UDP, port: number): Extract<Rule['ports'], { kind: 'these' }>['ports'][0] {
  return { kind: 'range', protocol, first: port, last: port };
}

function only(key: string, value: string): LabelSelector {
  return { requirements: [{ op: 'In', key, values: [value] }] };
}

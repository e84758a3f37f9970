// The production cluster whose shape Calico's own benchmark names: 294 policies of 68 rules, a quarter of which name one
// of 3 708 address sets with 256 000 members in all. Members are pods; the sets' sizes are the ones published there.
import { TCP } from '#net/protocol.ts';
import type { Peer, Policy } from '#policy/model.ts';
import { impliedNamespace, type Pod, type WorldEvent } from '#policy/world.ts';
import {
  address,
  EVERY,
  LOCAL_PODS,
  NODE,
  namespaceEvent,
  noise,
  paged,
  podEvent,
  podOf,
  policyEvent,
  policyOf,
  type RuleSpec,
  SPACE,
} from './load.ts';

const POLICIES = 294;
const RULES = 68;
const PODS = 100_000;
const MEMBERS = 256_000;
/** How many sets there are, with how many members each at least and at most. */
const SETS: readonly (readonly [count: number, least: number, most: number])[] = [
  [1, 54_566, 54_566],
  [4, 0, 0],
  [3035, 1, 9],
  [446, 10, 99],
  [64, 100, 999],
  [158, 1000, 10_000],
];

type Run = { readonly first: number; readonly size: number };

/** Members of a set are pods with neighbouring numbers, as the pods of a few workloads are. */
export class CalicoLoad {
  readonly #runs: readonly Run[] = runs();
  /** The sets of each pod. */
  readonly #setsOf: readonly (readonly number[])[] = memberships(this.#runs);

  get members(): number {
    return sum(this.#runs.map(({ size }) => size));
  }

  *pages(): Generator<readonly WorldEvent[]> {
    const node = { name: NODE, labels: {}, addresses: [address(0xac1f_0001)], podCidrs: [] };
    yield [
      namespaceEvent(impliedNamespace(SPACE)),
      namespaceEvent(impliedNamespace('members')),
      { kind: 'node', name: NODE, value: node },
    ];
    yield* paged(LOCAL_PODS, (index) => podEvent(localPod(index)));
    yield* paged(PODS, (index) => podEvent(this.pod(index)));
    yield* paged(POLICIES, (index) => policyEvent(this.policy(index)));
  }

  /** A pod of another node; `without`: a set that it is no member of any more. */
  pod(index: number, without: number | null = null): Pod {
    const sets = (this.#setsOf[index] ?? []).filter((set) => set !== without);
    const labels = Object.fromEntries(sets.map((set) => [`set-${set}`, '']));
    const name = `pod-${index}`;
    return podOf({
      space: 'members',
      name,
      labels,
      node: 'other',
      address: address(0x0a00_0001 + index),
      workload: 'app',
    });
  }

  /** A set that the pod is a member of; null where there is none. */
  setOf(index: number): number | null {
    return this.#setsOf[index]?.[0] ?? null;
  }

  /** Selects every measured pod. */
  policy(index: number, version = 0): Policy {
    const rules = Array.from({ length: RULES }, (_, at) => this.#rule(index * RULES + at, version));
    const name = `policy-${String(index).padStart(3, '0')}`;
    return policyOf({ space: SPACE, name, subject: EVERY, ingress: rules.slice(34), egress: rules.slice(0, 34) });
  }

  /** 24.2 % of rules name a set, each set at least once; of the others half name a block and half are for everybody. */
  #rule(index: number, version: number): RuleSpec {
    const first = 1024 + noise(index, 11 + version, 30_000);
    const ports = [{ kind: 'range', protocol: TCP, first, last: first } as const];
    const turn = index % 1000;
    if (turn < 242) {
      const nth = Math.floor(index / 1000) * 242 + turn;
      return { peers: [setPeer(nth < this.#runs.length ? nth : noise(index, 12, this.#runs.length))], ports };
    }
    if (turn % 2 === 0) return { peers: [block(index)], ports };
    return { peers: null, ports };
  }
}

function setPeer(set: number): Peer {
  const pods = { requirements: [{ op: 'Exists', key: `set-${set}` }] } as const;
  return { kind: 'pods', namespaces: { kind: 'named', name: 'members' }, pods };
}

function block(index: number): Peer {
  const words = [0xac00_0000 + (noise(index, 13, 65_536) << 8)];
  return { kind: 'cidr', cidr: { address: { family: 4, words }, length: 24 }, except: [] };
}

function localPod(index: number): Pod {
  const app = `web-${index % 5}`;
  const labels = { app, group: 'measured' };
  return podOf({
    space: SPACE,
    name: `pod-${index}`,
    labels,
    node: NODE,
    address: address(0x0a80_0001 + index),
    workload: app,
  });
}

/** Most sets of a class are near its least size; the largest class takes what is left of all members. */
function runs(): readonly Run[] {
  const fixed = SETS.slice(0, -1).flatMap(([count, least, most], kind) => {
    const size = (index: number): number =>
      least + Math.floor((most - least + 1) * (noise(index, 20 + kind, 1000) / 1000) ** 5);
    return Array.from({ length: count }, (_, index) => size(index));
  });
  const [count = 1, least = 0, most = 0] = SETS.at(-1) ?? [];
  const large = Array.from({ length: count }, () => least);
  let left = MEMBERS - sum(fixed) - sum(large);
  for (const index of large.keys()) {
    const more = Math.min(most - least, Math.ceil(left / 4));
    large[index] = least + more;
    left -= more;
  }
  return [...fixed, ...large].map((size, index) => ({ size, first: noise(index, 30, PODS - size) }));
}

function sum(sizes: readonly number[]): number {
  return sizes.reduce((total, size) => total + size, 0);
}

function memberships(all: readonly Run[]): readonly (readonly number[])[] {
  const sets = Array.from({ length: PODS }, (): number[] => []);
  for (const [set, { first, size }] of all.entries()) {
    for (let pod = first; pod < first + size; pod++) sets[pod]?.push(set);
  }
  return sets;
}

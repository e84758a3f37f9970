// The clusters that packets are measured in, as worlds: the measured pods among everything else that a node must know.
import { type Pod, podKey, type World, type WorldEvent } from '#policy/world.ts';
import { CalicoLoad } from './calico-load.ts';
import { Load, type LoadSize, policyEvent, SPACE } from './load.ts';
import { NODES } from './network.ts';

const FAR = 2;

/** A world, and its client, near and far server. */
export type BenchWorld = { readonly world: World; readonly measured: readonly Pod[] };

/** The cluster of a load. */
export function loadWorld(size: LoadSize): BenchWorld {
  return worldOf(new Load(size).pages());
}

/** Where among the policies of a world the one stands that decides on the measured pods' packets. */
export type Place = 'last' | 'middle';

/** So many policies of so many rules, all of which select the measured pods; one of them lets these speak to each other. */
export function selectingWorld(policies: number, rules = 2, place: Place = 'last'): BenchWorld {
  const load = new Load({ pods: 5000, policies: 0, selecting: policies - 1, rules });
  const { world, measured } = worldOf(load.pages());
  const own = load.ownTraffic();
  const selecting = [...world.policies.values()].filter(({ subject }) => subject.pods.requirements.length === 0);
  const middle = load.selectingPolicy(Math.floor(policies / 2)).order;
  const placed = place === 'last' ? own : { ...own, order: middle };
  const kept = selecting.map((policy) => (policy.key === own.key ? placed : policy));
  // Sets of the policies' own pods hold the measured ones alone: engines that make one for each policy make it fast.
  const pods = [...world.pods].filter(([, pod]) => pod.namespace !== SPACE || measured.includes(pod));
  return {
    world: { ...world, pods: new Map(pods), policies: new Map(kept.map((policy) => [policy.key, policy])) },
    measured,
  };
}

/** Calico's production shape, and one policy more, which lets the measured pods speak to each other. */
export function calicoWorld(): BenchWorld {
  const own = policyEvent(new Load({ pods: 0, policies: 0, selecting: 0, rules: 0 }).ownTraffic());
  return worldOf([...new CalicoLoad().pages(), [own]]);
}

/** A cluster in which nothing isolates anybody. */
export function openWorld(): BenchWorld {
  const { world, measured } = loadWorld({ pods: 0, policies: 0, selecting: 0, rules: 0 });
  return { world: { ...world, policies: new Map() }, measured };
}

function worldOf(pages: Iterable<readonly WorldEvent[]>): BenchWorld {
  const world = { namespaces: new Map(), nodes: new Map(), pods: new Map(), policies: new Map() };
  for (const page of pages) {
    for (const event of page) {
      if (event.kind === 'namespace') world.namespaces.set(event.name, event.value);
      else if (event.kind === 'node') world.nodes.set(event.name, event.value);
      else if (event.kind === 'pod') world.pods.set(event.key, event.value);
      else world.policies.set(event.key, event.value);
    }
  }
  const [here, there] = NODES;
  const podCidrs = world.nodes.get(here.name)?.podCidrs ?? [];
  for (const node of NODES) world.nodes.set(node.name, { ...node, labels: {}, podCidrs });
  const measured = [0, 1, FAR].map((index): Pod => {
    const key = podKey(SPACE, `pod-${index}`);
    const pod = world.pods.get(key);
    if (pod === undefined) throw new Error(`the load has no pod ${key}`);
    const placed = { ...pod, node: index === FAR ? there.name : here.name };
    world.pods.set(key, placed);
    return placed;
  });
  return { world, measured };
}

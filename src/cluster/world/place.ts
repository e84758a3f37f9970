// Where pods run and which addresses they have, where the input does not say: one deterministic answer for the
// simulation and the sandbox alike. Pure; what an earlier world gave, a later one keeps.
import { type Address, formatAddress } from '#net/address.ts';
import { type Cidr, cidrContains, cidrCovers, formatCidr } from '#net/cidr.ts';
import { compareText } from '#policy/model.ts';
import type { Node, Pod, PodKey, World } from '#policy/world.ts';
import { blocksOf, freeAddresses } from './pool.ts';

/** Nodes that nobody declared live in this network, and pods without an address in that one. */
const NODE_POOL: Cidr = { address: { family: 4, words: [0xac120000] }, length: 16 }; // 172.18.0.0/16
const POD_POOL: Cidr = { address: { family: 4, words: [0x0af40000] }, length: 16 }; // 10.244.0.0/16
const POD_BLOCK_LENGTH = 24;

/**
 * Gives every pod a node, and every node an address and a block for its pods. Nodes are added until there are
 * `nodeCount`. A pod's own node is honoured; the others go where there are fewest, so that about half of the pairs,
 * or more, are on different nodes. `previous` is the world before a change: its choices stay where they still can.
 */
export function placePods(world: World, nodeCount: number, previous: World | null = null): World {
  const names = nodeNames(world, nodeCount);
  const nodes = completeNodes(
    names.map((name) => world.nodes.get(name) ?? emptyNode(name)),
    world,
    previous,
  );
  const load = new Map(names.map((name) => [name, 0]));
  const placed = new Map<PodKey, Pod>();
  const settled = (pod: Pod): string => pod.node || earlierNode(pod, previous, nodes);
  const sorted = [...world.pods.values()].sort((a, b) => compareText(a.key, b.key));
  for (const pod of sorted) {
    const node = settled(pod);
    if (node !== '') load.set(node, (load.get(node) ?? 0) + 1);
  }
  for (const pod of sorted) {
    const node = settled(pod) || leastLoaded(load);
    if (settled(pod) === '') load.set(node, (load.get(node) ?? 0) + 1);
    const addresses = pod.hostNetwork ? (nodes.get(node)?.addresses ?? []) : pod.addresses;
    placed.set(pod.key, { ...pod, node, addresses });
  }
  return { ...world, nodes, pods: placed };
}

/**
 * Gives an address to every pod that can have one and has none: the next free one of each of its node's blocks.
 * Addresses that the input gives are never touched, and never given twice. A pod whose node is full stays without.
 */
export function assignAddresses(world: World, previous: World | null = null): World {
  const taken = new Set<string>();
  for (const pod of world.pods.values()) for (const address of pod.addresses) taken.add(formatAddress(address));
  for (const node of world.nodes.values()) for (const address of node.addresses) taken.add(formatAddress(address));
  const waiting = [...world.pods.values()].filter(needsAddress).sort((a, b) => compareText(a.key, b.key));
  const pods = new Map(world.pods);
  const give = (pod: Pod, addresses: readonly Address[]): void => {
    for (const address of addresses) taken.add(formatAddress(address));
    pods.set(pod.key, { ...pod, addresses });
  };
  const fresh: Pod[] = [];
  for (const pod of waiting) {
    const kept = earlierAddresses(pod, world, previous).filter((address) => !taken.has(formatAddress(address)));
    if (kept.length > 0) give(pod, kept);
    else fresh.push(pod);
  }
  const pools = new Map([...world.nodes.values()].map((node) => [node.name, node.podCidrs.map(freeAddresses)]));
  for (const pod of fresh) {
    const found = (pools.get(pod.node) ?? []).map((next) => next(taken)).filter((address) => address !== null);
    give(pod, found);
  }
  return { ...world, pods };
}

/** True for a pod that should have an address of its own and has none. */
export function needsAddress(pod: Pod): boolean {
  return !pod.hostNetwork && !pod.finished && pod.addresses.length === 0;
}

function nodeNames(world: World, nodeCount: number): string[] {
  const names = new Set([...world.nodes.keys()].sort(compareText));
  for (const pod of world.pods.values()) if (pod.node !== '') names.add(pod.node);
  for (let index = 1; names.size < nodeCount; index++) names.add(`node-${index}`);
  return [...names];
}

function emptyNode(name: string): Node {
  return { name, labels: { 'kubernetes.io/hostname': name }, addresses: [], podCidrs: [] };
}

/** Nodes with an address and a block each. Blocks that the input's own addresses or blocks touch are passed over. */
function completeNodes(nodes: readonly Node[], world: World, previous: World | null): Map<string, Node> {
  const given = [...world.pods.values()].flatMap((pod) => pod.addresses);
  const takenAddresses = new Set([...given, ...nodes.flatMap((node) => node.addresses)].map(formatAddress));
  const takenBlocks = nodes.flatMap((node) => node.podCidrs);
  const kept = nodes.map((node) => keepEarlier(node, previous?.nodes.get(node.name), { takenAddresses, takenBlocks }));
  const nextAddress = freeAddresses(NODE_POOL);
  const candidates = blocksOf(POD_POOL, POD_BLOCK_LENGTH);
  const isFree = (block: Cidr): boolean =>
    !given.some((address) => cidrContains(block, address)) && !takenBlocks.some((taken) => overlap(taken, block));
  const complete = new Map<string, Node>();
  for (const node of kept) {
    const address = node.addresses.length > 0 ? null : nextAddress(takenAddresses);
    if (address !== null) takenAddresses.add(formatAddress(address));
    const block = node.podCidrs.length > 0 ? undefined : candidates.find(isFree);
    if (block !== undefined) takenBlocks.push(block);
    const addresses = address === null ? node.addresses : [address];
    complete.set(node.name, { ...node, addresses, podCidrs: block === undefined ? node.podCidrs : [block] });
  }
  return complete;
}

type Taken = { readonly takenAddresses: Set<string>; readonly takenBlocks: Cidr[] };

/** What the node had before, where the input gives nothing itself and nobody else has it now. */
function keepEarlier(node: Node, earlier: Node | undefined, { takenAddresses, takenBlocks }: Taken): Node {
  if (earlier === undefined) return node;
  const addresses = earlier.addresses.filter((address) => !takenAddresses.has(formatAddress(address)));
  const podCidrs = earlier.podCidrs.filter((block) => !takenBlocks.some((taken) => overlap(taken, block)));
  const kept = {
    ...node,
    addresses: node.addresses.length > 0 ? node.addresses : addresses,
    podCidrs: node.podCidrs.length > 0 ? node.podCidrs : podCidrs,
  };
  for (const address of kept.addresses) takenAddresses.add(formatAddress(address));
  for (const block of kept.podCidrs) {
    if (!takenBlocks.some((taken) => formatCidr(taken) === formatCidr(block))) takenBlocks.push(block);
  }
  return kept;
}

function overlap(a: Cidr, b: Cidr): boolean {
  return cidrCovers(a, b) || cidrCovers(b, a);
}

function earlierNode(pod: Pod, previous: World | null, nodes: ReadonlyMap<string, Node>): string {
  const node = previous?.pods.get(pod.key)?.node ?? '';
  return nodes.has(node) ? node : '';
}

/** The addresses that a pod was given before, if it is still on a node whose blocks hold them. */
function earlierAddresses(pod: Pod, world: World, previous: World | null): readonly Address[] {
  const earlier = previous?.pods.get(pod.key);
  if (earlier === undefined || earlier.hostNetwork) return [];
  const blocks = world.nodes.get(pod.node)?.podCidrs ?? [];
  return earlier.addresses.filter((address) => blocks.some((block) => cidrContains(block, address)));
}

function leastLoaded(load: ReadonlyMap<string, number>): string {
  let best = '';
  for (const [name, count] of load) if (best === '' || count < (load.get(best) ?? 0)) best = name;
  return best;
}

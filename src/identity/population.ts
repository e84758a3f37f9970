// Who has which address: pods, nodes and pod blocks as events tell it, and what an event has made uncertain since.
import type { Address } from '#net/address.ts';
import { type Cidr, type CidrKey, formatCidr } from '#net/cidr.ts';
import {
  impliedNamespace,
  isEndpoint,
  type NamedPort,
  type Namespace,
  type Node,
  type Pod,
  type PodKey,
  type WorldEvent,
} from '#policy/world.ts';
import { AddressTable, NONE } from './addresses.ts';
import type { PortAtom, SelectorAtom } from './atoms.ts';
import { type Block, Blocks } from './blocks.ts';
import { pairMask } from './labels.ts';
import { PodTable } from './pods.ts';
import { RowNotes } from './row-notes.ts';

/** Places whose identity has to be found anew; the reader clears them. */
export type Dirty = {
  /** Address rows, with no number of their own, and the pods that owned some of them before. */
  readonly rows: RowNotes;
  readonly owners: Map<number, PodKey>;
  /** Rows that came to a node or left it: what is from a pod's own node is not judged. */
  readonly nodeRows: Set<number>;
  readonly blocks: Set<Block>;
  /** Blocks that nothing draws any more. */
  readonly gone: Set<Block>;
  /** True where a pod block came or went. */
  podBlocks: boolean;
};

type NodeEntry = { readonly addresses: readonly number[]; readonly blocks: ReadonlyMap<CidrKey, Cidr> };

/** What is known of a label set and a selector. */
const UNKNOWN = 0;
const MATCHED = 1;
const UNMATCHED = 2;

const NOTHING: readonly never[] = [];

export class Population {
  readonly pods: PodTable = new PodTable();
  readonly blocks: Blocks = new Blocks();
  readonly addresses: AddressTable = new AddressTable((a, b) => this.pods.key(a) < this.pods.key(b));
  readonly dirty: Dirty = {
    rows: new RowNotes(),
    owners: new Map(),
    nodeRows: new Set(),
    blocks: new Set(this.blocks.values()),
    gone: new Set(),
    podBlocks: false,
  };
  readonly #declared = new Map<string, Namespace>();
  readonly #hosts = new Map<PodKey, readonly number[]>();
  readonly #nodes = new Map<string, NodeEntry>();
  readonly #rivals = new Set<PodKey>();
  readonly #numbersOf = new WeakMap<readonly NamedPort[], ReadonlyMap<string, ReadonlySet<number>>>();

  setNamespace(name: string, value: Namespace | null): void {
    if (value === null) this.#declared.delete(name);
    else this.#declared.set(name, value);
    const number = this.pods.namespaces.find(name);
    if (number === undefined) return;
    this.pods.namespaces.at(number).labels = this.namespaceLabels(name);
    for (let pod = this.pods.firstIn(number); pod !== NONE; pod = this.pods.nextAfter(pod)) {
      this.#soil(this.pods.addresses(pod));
    }
  }

  setNode(name: string, value: Node | null): void {
    const before: NodeEntry = this.#nodes.get(name) ?? { addresses: [], blocks: new Map() };
    const addresses = this.#claimHosts(value?.addresses ?? []);
    const blocks = new Map((value?.podCidrs ?? []).map((cidr) => [formatCidr(cidr), cidr]));
    for (const [key, cidr] of blocks) if (!before.blocks.has(key)) this.#countPodBlock(cidr, 1);
    for (const [key, cidr] of before.blocks) if (!blocks.has(key)) this.#countPodBlock(cidr, -1);
    for (const row of addresses) if (!before.addresses.includes(row)) this.dirty.nodeRows.add(row);
    for (const row of before.addresses) if (!addresses.includes(row)) this.dirty.nodeRows.add(row);
    this.#unclaimHosts(before.addresses);
    if (value === null) this.#nodes.delete(name);
    else this.#nodes.set(name, { addresses, blocks });
  }

  /** Null, finished and address-less pods are nobody; a hostNetwork pod's addresses are its node's. */
  setPod(key: PodKey, value: Pod | null): void {
    const hosts = this.#hosts.get(key) ?? [];
    this.#hosts.delete(key);
    if (value !== null && !value.finished && value.hostNetwork) {
      this.#hosts.set(key, this.#claimHosts(value.addresses));
    }
    this.#unclaimHosts(hosts);
    this.#removePod(key);
    if (value !== null && isEndpoint(value)) this.#addPod(value);
  }

  /** Whether a pod with this key is somebody to policy. */
  knows(key: PodKey): boolean {
    return this.#hosts.has(key) || this.pods.find(key) !== undefined;
  }

  /** The deletion of everything here. */
  *known(): Generator<WorldEvent> {
    for (const name of this.#declared.keys()) yield { kind: 'namespace', name, value: null };
    for (const name of this.#nodes.keys()) yield { kind: 'node', name, value: null };
    for (const pod of this.pods.values()) yield { kind: 'pod', key: this.pods.key(pod), value: null };
    for (const key of this.#hosts.keys()) yield { kind: 'pod', key, value: null };
  }

  /** Labels of a namespace as selectors see them, declared or implied. */
  namespaceLabels(name: string): Namespace['labels'] {
    return (this.#declared.get(name) ?? impliedNamespace(name)).labels;
  }

  isAudited(name: string): boolean {
    return this.#declared.get(name)?.mode === 'audit';
  }

  /** Pods whose ownership of an address may have changed since the last call: other pods claim it too. */
  takeRivals(): readonly PodKey[] {
    const keys = [...this.#rivals];
    this.#rivals.clear();
    return keys;
  }

  /** True where the pod is the one that owns the address. */
  owns(key: PodKey, address: Address): boolean {
    const row = this.addresses.find(address);
    return row !== undefined && this.ownerKey(row) === key;
  }

  /** The pod that owns an address; null for a node's. */
  ownerKey(row: number): PodKey | null {
    const owner = this.addresses.owner(row);
    return owner === NONE ? null : this.pods.key(owner);
  }

  /** True where a selector matches the pod. */
  selects(atom: SelectorAtom, pod: number): boolean {
    const { namespaces, labelSets } = this.pods;
    const namespace = namespaces.at(this.pods.namespace(pod));
    const inside =
      atom.namespaces.kind === 'named' ? namespace.name === atom.namespaces.name : atom.namespaceTest(namespace.labels);
    return inside && atom.podTest(labelSets.at(this.pods.labels(pod)));
  }

  /** The pods of one namespace that a selector matches. */
  selectedIn(name: string, atom: SelectorAtom): number[] {
    const { namespaces } = this.pods;
    const namespace = namespaces.find(name);
    const found: number[] = [];
    if (namespace === undefined) return found;
    for (let pod = this.pods.firstIn(namespace); pod !== NONE; pod = this.pods.nextAfter(pod)) {
      if (atom.podTest(this.pods.labelSets.at(this.pods.labels(pod)))) found.push(pod);
    }
    return found;
  }

  /** The pods from the first to before the end that a selector of namespaces by label matches. Each label set is looked at once. */
  selectedAmong(atom: SelectorAtom, first: number, end: number): number[] {
    const { pods } = this;
    const inside = new Uint8Array(pods.namespaces.end);
    for (const number of pods.namespaces.numbers()) {
      if (atom.namespaceTest(pods.namespaces.at(number).labels)) inside[number] = 1;
    }
    const known = new Uint8Array(pods.labelSets.end);
    const mask = pairMask(atom.pods);
    const found: number[] = [];
    for (let pod = first; pod < end; pod++) {
      const namespace = pods.namespace(pod);
      if (namespace === NONE || inside[namespace] !== 1) continue;
      const labels = pods.labels(pod);
      if (mask !== null && (pods.pairs(labels) & mask) === 0) continue;
      if (known[labels] === UNKNOWN) known[labels] = atom.podTest(pods.labelSets.at(labels)) ? MATCHED : UNMATCHED;
      if (known[labels] === MATCHED) found.push(pod);
    }
    return found;
  }

  /** The numbers that a named port has on each pod, as they are now. */
  numbersOf(atom: PortAtom): (pod: number) => Iterable<number> {
    const { pods } = this;
    const values = new Map<number, ReadonlySet<number>>();
    for (const number of pods.portSets.numbers()) {
      const own = this.#portNumbers(pods.portSets.at(number)).get(nameOf(atom));
      if (own !== undefined) values.set(number, own);
    }
    return (pod) => (pods.namespace(pod) === NONE ? NOTHING : (values.get(pods.ports(pod)) ?? NOTHING));
  }

  /** By name, once for each set: a pod may have ten thousand names, and each of them is asked for. */
  #portNumbers(ports: readonly NamedPort[]): ReadonlyMap<string, ReadonlySet<number>> {
    const known = this.#numbersOf.get(ports);
    if (known !== undefined) return known;
    const found = new Map<string, Set<number>>();
    for (const port of ports) {
      const name = nameOf(port);
      found.set(name, (found.get(name) ?? new Set()).add(port.port));
    }
    this.#numbersOf.set(ports, found);
    return found;
  }

  /** Call before the address changes hands: its owner then is remembered. */
  #soil(rows: readonly number[]): void {
    for (const row of rows) {
      if (this.dirty.rows.get(row) !== undefined) continue;
      this.dirty.rows.note(row, NONE);
      const owner = this.ownerKey(row);
      if (owner !== null) this.dirty.owners.set(row, owner);
    }
  }

  #claimHosts(addresses: readonly Address[]): number[] {
    const rows = addresses.map((address) => this.addresses.take(address));
    this.#soil(rows);
    for (const row of rows) this.addresses.claimHost(row);
    return rows;
  }

  #unclaimHosts(rows: readonly number[]): void {
    this.#soil(rows);
    for (const row of rows) this.addresses.unclaimHost(row);
  }

  #addPod(pod: Pod): void {
    const row = this.pods.add(pod, () => this.namespaceLabels(pod.namespace));
    const addresses = [...new Set(pod.addresses.map((address) => this.addresses.take(address)))];
    this.#soil(addresses);
    for (const address of addresses) {
      this.addresses.claim(address, row);
      this.#noteRivals(this.addresses.rivals(address));
    }
    this.pods.setAddresses(row, addresses);
  }

  #removePod(key: PodKey): void {
    const row = this.pods.find(key);
    if (row === undefined) return;
    const addresses = this.pods.addresses(row);
    this.#soil(addresses);
    for (const address of addresses) this.#noteRivals(this.addresses.unclaim(address, row));
    this.pods.remove(row);
  }

  #noteRivals(pods: readonly number[]): void {
    for (const pod of pods) this.#rivals.add(this.pods.key(pod));
  }

  #countPodBlock(cidr: Cidr, change: 1 | -1): void {
    const block = this.blocks.countPodBlock(cidr, change);
    this.dirty.podBlocks = true;
    if (!this.blocks.has(block)) this.dirty.gone.add(block);
    for (const inside of this.blocks.inside(cidr)) this.dirty.blocks.add(inside);
  }
}

function nameOf({ name, protocol }: Pick<NamedPort, 'name' | 'protocol'>): string {
  return `${name} ${protocol}`;
}

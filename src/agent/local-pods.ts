// This node's pods as the CNI knows them: the API learns a pod's addresses only after the CNI has answered, and a pod's
// policy must be in force before. So addresses of the node's own blocks come from its attachments, and from nowhere
// else: what a status says of them is too early, too late, or the same.

import { type Address, formatAddress, parseAddress } from '#net/address.ts';
import { type Cidr, cidrContains, formatCidr } from '#net/cidr.ts';
import type { Attachment, AttachmentId } from '#network/attachments.ts';
import {
  type ClusterEvent,
  isEndpoint,
  type Node,
  type Pod,
  type PodKey,
  podKey,
  type WorldEvent,
} from '#policy/world.ts';

/** Who has which addresses: what there is to know of an attachment here. */
export type Claim = Pick<Attachment, 'pod' | 'addresses' | 'sequence' | 'foreignIndex'>;

/**
 * A pod that no attachment is of. `over`: it had one, which is over; its interface, where that was somebody else's link and may
 * be there yet. Null: it never had one.
 */
export type Unattached = { readonly pod: Pod; readonly over: { readonly interfaceIndex: number | null } | null };

/** How addresses that a status tells are taken. */
export type LocalPodsOptions = {
  readonly node: string;
  /**
   * All pods get their addresses from their nodes' blocks, by Moat: another node's pod has those in that node's blocks and no others,
   * and a pod of this node has what its attachment has. Else statuses are believed, but for this node's blocks.
   */
  readonly strict: boolean;
  /** Gets what is wrong: addresses that are not believed, once a pod; pods that changed blocks leave behind. */
  readonly tell: (problem: string) => void;
};

/** Stands between a source and the compiler. It adds no pods, and takes none away. */
export class LocalPods {
  readonly #options: LocalPodsOptions;
  /** Pods as the source has them, but for those on their node's own network. */
  readonly #pods: Map<PodKey, Pod> = new Map();
  readonly #claims: Map<AttachmentId, Claim> = new Map();
  /** Other nodes' blocks. */
  readonly #others: Map<string, readonly Cidr[]> = new Map();
  /** Whose addresses are known not to be believed. */
  readonly #told: Set<PodKey> = new Set();
  /** Pods whose last attachment is over, though the API still has them: their uids, and its interface. */
  readonly #ended: Map<PodKey, { readonly uid: string; readonly interfaceIndex: number | null }> = new Map();
  #blocks: readonly Cidr[] = [];
  #nodeAddresses: readonly Address[] = [];

  constructor(options: LocalPodsOptions) {
    this.#options = options;
  }

  /** Blocks that this node's pods get addresses from; none before the node is known. */
  get blocks(): readonly Cidr[] {
    return this.#blocks;
  }

  get nodeAddresses(): readonly Address[] {
    return this.#nodeAddresses;
  }

  /** The source starts afresh, with a list of all: who is told of its events has forgotten those of before. */
  startAfresh(): void {
    this.#pods.clear();
    this.#others.clear();
  }

  /** The deletion of each pod that only this remembers: without addresses it is nobody to the compiler. */
  *known(): Generator<WorldEvent> {
    for (const [key, pod] of this.#pods) if (!isEndpoint(this.#shown(pod))) yield { kind: 'pod', key, value: null };
  }

  /** A source's events, as the compiler is to have them. */
  follow(events: readonly ClusterEvent[]): readonly ClusterEvent[] {
    return events.flatMap((event): readonly ClusterEvent[] => {
      if (event.kind === 'pod') return [this.#followPod(event.key, event.value)];
      if (event.kind !== 'node') return [event];
      if (event.name !== this.#options.node) return [event, ...this.#followOther(event.name, event.value)];
      if (event.value === null) return [event];
      this.#nodeAddresses = event.value.addresses;
      return [event, ...this.#changeBlocks(event.value.podCidrs)];
    });
  }

  /** An attachment has its addresses from now on: what becomes of its pod by that. */
  claim(id: AttachmentId, claim: Claim): readonly WorldEvent[] {
    this.#claims.set(id, claim);
    return this.#showAgain(keyOf(claim));
  }

  /** An attachment is over. */
  release(id: AttachmentId): readonly WorldEvent[] {
    const claim = this.#claims.get(id);
    this.#claims.delete(id);
    if (claim !== undefined) {
      this.#ended.set(keyOf(claim), { uid: claim.pod.uid, interfaceIndex: claim.foreignIndex ?? null });
    }
    return claim === undefined ? [] : this.#showAgain(keyOf(claim));
  }

  /** Whether the attachment is the one that its pod's addresses come from: the pod is known, and no later one has its name. */
  isCurrent(id: AttachmentId): boolean {
    const claim = this.#claims.get(id);
    const pod = claim && this.#pods.get(keyOf(claim));
    return pod?.node === this.#options.node && this.#claimOf(pod) === claim;
  }

  /**
   * Pods that run here by their status, and that no attachment is of: somebody else attached them, and told nobody. Of those
   * whose attachment is over most are about to end; one may have got another sandbox.
   */
  get unattached(): readonly Unattached[] {
    const running = [...this.#pods.values()].filter(
      (pod) =>
        pod.node === this.#options.node &&
        pod.addresses.length > 0 &&
        !pod.finished &&
        this.#claimOf(pod) === undefined,
    );
    return running.map((pod) => {
      const ended = this.#ended.get(pod.key);
      return { pod, over: ended?.uid === (pod.uid ?? '') ? ended : null };
    });
  }

  #followPod(key: PodKey, pod: Pod | null): WorldEvent {
    if (pod === null || pod.hostNetwork) this.#pods.delete(key);
    else this.#pods.set(key, pod);
    if (pod === null) {
      this.#told.delete(key);
      this.#ended.delete(key);
      return { kind: 'pod', key, value: null };
    }
    const shown = this.#shown(pod);
    this.#tellStrange(pod, shown);
    return { kind: 'pod', key, value: shown };
  }

  /** What a status says of this node's blocks is too early or too late as a rule; what it says of others' is wrong. */
  #tellStrange(pod: Pod, { addresses }: Pod): void {
    const blocks = pod.node === this.#options.node ? this.#blocks : this.#others.get(pod.node);
    if (!this.#options.strict || pod.hostNetwork || blocks === undefined || this.#told.has(pod.key)) return;
    const strange = pod.addresses.find(
      (address) => !addresses.includes(address) && !blocks.some((block) => cidrContains(block, address)),
    );
    if (strange === undefined) return;
    this.#told.add(pod.key);
    this.#options.tell(
      `${pod.key} has an address in its status, ${formatAddress(strange)}, that is in no podCIDR of its node ${pod.node}: it is not believed`,
    );
  }

  #followOther(name: string, node: Node | null): readonly WorldEvent[] {
    if (sameBlocks(this.#others.get(name), node?.podCidrs)) return [];
    if (node === null) this.#others.delete(name);
    else this.#others.set(name, node.podCidrs);
    return this.#options.strict ? this.#showWhere((pod) => pod.node === name) : [];
  }

  #changeBlocks(blocks: readonly Cidr[]): readonly WorldEvent[] {
    if (sameBlocks(this.#blocks, blocks)) return [];
    this.#blocks = blocks;
    const isOutside = (text: string): boolean => {
      const address = parseAddress(text);
      return address !== null && !blocks.some((block) => cidrContains(block, address));
    };
    // Others' addresses come from where others say.
    const own = [...this.#claims.values()].filter(({ foreignIndex }) => foreignIndex === undefined);
    const left = own.filter(({ addresses }) => addresses.some(isOutside));
    if (left.length > 0) {
      const now = blocks.map(formatCidr).join(', ');
      this.#options.tell(
        `this node's podCIDRs are ${now || 'gone'}: ${left.length} pods keep addresses outside of them, ${left[0] && keyOf(left[0])} among them, and other nodes may not reach them; make them anew`,
      );
    }
    // Whoever has an address in them by its status may have had none before, and the other way round.
    return this.#showWhere(() => true);
  }

  #showWhere(matches: (pod: Pod) => boolean): readonly WorldEvent[] {
    const events: WorldEvent[] = [];
    for (const pod of this.#pods.values()) {
      if (!matches(pod)) continue;
      const value = this.#shown(pod);
      this.#tellStrange(pod, value);
      events.push({ kind: 'pod', key: pod.key, value });
    }
    return events;
  }

  #showAgain(key: PodKey): readonly WorldEvent[] {
    const pod = this.#pods.get(key);
    return pod === undefined ? [] : [{ kind: 'pod', key, value: this.#shown(pod) }];
  }

  #shown(pod: Pod): Pod {
    if (pod.hostNetwork) return pod;
    const isLocal = pod.node === this.#options.node;
    const claim = isLocal ? this.#claimOf(pod) : undefined;
    if (claim !== undefined) return { ...pod, addresses: claim.addresses.flatMap((text) => parseAddress(text) ?? []) };
    const believed = pod.addresses.filter((address) => this.#isBelieved(address, pod.node));
    return believed.length === pod.addresses.length ? pod : { ...pod, addresses: believed };
  }

  /** Of a pod that no attachment is of. */
  #isBelieved(address: Address, node: string): boolean {
    const isIn = (blocks: readonly Cidr[]): boolean => blocks.some((block) => cidrContains(block, address));
    if (isIn(this.#blocks)) return false;
    return !this.#options.strict || (node !== this.#options.node && isIn(this.#others.get(node) ?? []));
  }

  /**
   * The latest attachment that is this very pod's: one of a pod that had the name before has another uid, and one of a
   * sandbox that was replaced came earlier. Their interfaces stay closed until they go.
   */
  #claimOf(pod: Pod): Claim | undefined {
    const own = [...this.#claims.values()].filter(
      (claim) => keyOf(claim) === pod.key && (pod.uid === undefined || claim.pod.uid === pod.uid),
    );
    return own.sort((a, b) => b.sequence - a.sequence)[0];
  }
}

function keyOf({ pod }: Claim): PodKey {
  return podKey(pod.namespace, pod.name);
}

function sameBlocks(a: readonly Cidr[] = [], b: readonly Cidr[] = []): boolean {
  return a.map(formatCidr).join() === b.map(formatCidr).join();
}

// The Plan: everything a datapath needs to judge packets, in tables that know nothing of kernels or dialects.
// Numbers (rule, table, layer, identity, set) are handed out once and never used again while a compiler lives.
import { type Address, type AddressKey, formatAddress } from '#net/address.ts';
import { type Cidr, type CidrKey, formatCidr } from '#net/cidr.ts';
import type { Protocol } from '#net/protocol.ts';
import type { Action, Direction, RuleId, Source } from '#policy/model.ts';
import type { PodKey } from '#policy/world.ts';

export type RuleNumber = number;
export type TableNumber = number;
export type LayerNumber = number;
export type IdentityNumber = number;
export type SetNumber = number;

/**
 * What a rule number stands for. `source` is null for a default deny, whose `policies` isolate the endpoint: they are put
 * together for who asks, and `places` says how many there are without that. Any other rule has one place.
 */
export type RuleInfo = {
  readonly id: RuleId;
  readonly direction: Direction;
  readonly action: Action;
  readonly source: Source | null;
  readonly policies: readonly Source[];
  readonly places: number;
  /** Policies of the endpoint's own namespace alone say so: what they deny, that namespace's audit lets pass. */
  readonly own?: true;
};

/**
 * One interval of a port table: positions `first..last` on the axis (net/axis.ts) have this action and rule.
 * `order` places the rule in evaluation order within its layer: of a base hit and a class hit, the smaller order
 * decides (equal orders say the same). Where a pass inside the layer led to the rule, a class interval has the order
 * of the first rule on the way, a base interval that of the last.
 */
export type Interval = {
  readonly first: number;
  readonly last: number;
  readonly action: Action;
  readonly rule: RuleNumber;
  readonly order: number;
};

/** Disjoint intervals, ascending. A position that no interval covers is not decided by this table. */
export type PortTable = readonly Interval[];

/** One group of tiers: `base` is the table of the rules for any peer; null = no such rule. */
export type Layer = { readonly base: TableNumber | null; readonly classes: ReadonlyMap<IdentityNumber, TableNumber> };

/** The layers that an endpoint address meets, first to last. No layer at all: nothing isolates, everything passes. */
export type PolicySet = { readonly layers: readonly LayerNumber[] };

/** Which denials pass as audited: those of the namespace's own policies, or all. */
export type Audit = 'own' | 'all';

/** A local endpoint's address. Another address of the same pod is another entry (policy may differ by family). */
export type PlanEndpoint = {
  readonly address: Address;
  readonly pod: PodKey;
  /** Name of the pod's node. */
  readonly node: string;
  readonly egress: SetNumber;
  readonly ingress: SetNumber;
  /** Absent: everything is enforced. */
  readonly audit?: Audit;
};

/**
 * What an identity stands for. `unknown`: an address in a pod block that no known pod has (datapath.md §2): rules by
 * selector do not match it, and a deny there is reported as peer-unknown where some pod could have been allowed.
 */
export type Identity = { readonly unknown: boolean };

/** A prefix of the address space and its identity; the longest match counts, after the exact addresses. */
export type Prefix = { readonly cidr: Cidr; readonly identity: IdentityNumber };

/** Where clients find a Service: one of its addresses, and one of its ports. */
export type ServiceAddress = {
  readonly address: Address;
  readonly protocol: Protocol;
  readonly port: number;
  /** For what arrives at the node from outside; absent = for what its pods send. */
  readonly scope?: 'outside';
};

/** `formatAddress(address) protocol port`, and ` outside` where that is the scope. */
export type ServiceKey = string & { readonly __brand: 'ServiceKey' };

export function serviceKey({ address, protocol, port, scope }: ServiceAddress): ServiceKey {
  return `${formatAddress(address)} ${protocol} ${port}${scope === undefined ? '' : ` ${scope}`}` as ServiceKey;
}

/** Who serves, of the Service's family. */
export type Backend = { readonly address: Address; readonly port: number };

/** By their addresses, of the Service's family; `node`: whether the node's own sockets are among them. */
export type ServiceClients = { readonly blocks: readonly Cidr[]; readonly node: boolean };

/** Clients so that they can be compared; '' = whoever asks. */
export function clientsText(clients: ServiceClients | undefined): string {
  return clients === undefined ? '' : [clients.node, ...clients.blocks.map(formatCidr)].join(' ');
}

/**
 * One port of a Service. A hash of a flow chooses a place, and the place a backend, by its index. No backends, no places:
 * whoever asks is refused.
 */
export type PlanService = ServiceAddress & {
  /** For so long after its last new flow a client stays with its backend; absent = each flow goes where its hash says. */
  readonly affinitySeconds?: number;
  /** Whom it is for; absent = whoever asks. Others are refused as if nobody served. */
  readonly clients?: ServiceClients;
  readonly backends: readonly Backend[];
  readonly places: readonly number[];
};

export type Plan = {
  readonly rules: ReadonlyMap<RuleNumber, RuleInfo>;
  readonly tables: ReadonlyMap<TableNumber, PortTable>;
  readonly layers: ReadonlyMap<LayerNumber, Layer>;
  readonly sets: ReadonlyMap<SetNumber, PolicySet>;
  readonly identities: ReadonlyMap<IdentityNumber, Identity>;
  /** Exact addresses: pods and nodes, their CIDR memberships folded into the identity. */
  readonly addresses: ReadonlyMap<AddressKey, IdentityNumber>;
  /** Always holds 0.0.0.0/0 and ::/0. */
  readonly prefixes: ReadonlyMap<CidrKey, Prefix>;
  readonly endpoints: ReadonlyMap<AddressKey, PlanEndpoint>;
  /** Addresses of each node: ingress from the endpoint's own node is not judged. */
  readonly nodes: ReadonlyMap<string, readonly Address[]>;
  /** What is translated at the pods that ask; addresses of endpoints never are. */
  readonly services: ReadonlyMap<ServiceKey, PlanService>;
};

/**
 * One change of a Plan; null = gone. The compiler emits steps in an order that is safe for packets in flight: what is
 * pointed at comes before what points at it, removals the other way round, `epoch` last.
 */
export type Step =
  | { readonly kind: 'rule'; readonly rule: RuleNumber; readonly value: RuleInfo | null }
  | { readonly kind: 'table'; readonly table: TableNumber; readonly value: PortTable | null }
  | {
      readonly kind: 'layer';
      readonly layer: LayerNumber;
      readonly value: { readonly base: TableNumber | null } | null;
    }
  | {
      readonly kind: 'class';
      readonly layer: LayerNumber;
      readonly identity: IdentityNumber;
      readonly value: TableNumber | null;
    }
  | { readonly kind: 'set'; readonly set: SetNumber; readonly value: PolicySet | null }
  | { readonly kind: 'identity'; readonly identity: IdentityNumber; readonly value: Identity | null }
  | { readonly kind: 'address'; readonly address: Address; readonly value: IdentityNumber | null }
  | { readonly kind: 'prefix'; readonly cidr: Cidr; readonly value: IdentityNumber | null }
  | { readonly kind: 'endpoint'; readonly address: Address; readonly value: PlanEndpoint | null }
  | { readonly kind: 'node'; readonly node: string; readonly value: readonly Address[] | null }
  | { readonly kind: 'service'; readonly at: ServiceAddress; readonly value: PlanService | null }
  /** Open flows of these sets, and with these peers, are judged again at their next packet. */
  | { readonly kind: 'epoch'; readonly sets: readonly SetNumber[]; readonly peers: readonly Address[] };

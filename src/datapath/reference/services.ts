// Services: what a pod sends to one goes to a backend, and on with the flow that it began.
import {
  type Backend,
  clientsText,
  type Plan,
  type PlanService,
  type ServiceKey,
  type Step,
  serviceKey,
} from '#compile/plan.ts';
import type { DropReason } from '#datapath/port.ts';
import { formatAddress } from '#net/address.ts';
import { cidrContains } from '#net/cidr.ts';
import { flowHash, reduceHash } from '#net/hash.ts';
import { SCTP, TCP, UDP } from '#net/protocol.ts';
import type { Tuple } from './packet.ts';
import { isOpening, type Passage } from './passage.ts';

/** A backend, and since which change of its Service it serves without a break. */
type Serving = { readonly backend: Backend; readonly since: number };

/** Where a packet goes: as it was sent, to a backend, or nowhere. */
export type Sent =
  | { readonly kind: 'as-sent' }
  | ({ readonly kind: 'to' } & Serving)
  | { readonly kind: 'drop'; readonly reason: DropReason };

/** `spare`: datagrams that the other side sent of its own accord, which give way where nothing else is free. */
export type Standing = 'none' | 'this' | 'another' | 'spare';

/** What is known of flows: whether one that stands under this tuple was sent to this Service, or to somebody else. */
type StandingFlows = {
  readonly standing: (tuple: Tuple, service: Backend, nowNs: bigint) => Standing;
};

/** A backend that the pod's port can't have, or that is the pod itself and not to be reached, gives way to those of the next places. */
const PLACES_TRIED = 16;
const SECOND = 1_000_000_000n;

type Beginning = {
  readonly tuple: Tuple;
  readonly service: Backend;
  readonly mayTurn: boolean;
  readonly nowNs: bigint;
};
type Affinity = Serving & { readonly hash: number; readonly lastNs: bigint };
const AS_SENT: Sent = { kind: 'as-sent' };

export class Services {
  readonly #plan: Plan;
  readonly #flows: StandingFlows;
  readonly #translations = new Map<string, Serving>();
  /** To whom clients went last, and what chose it, by client and Service. */
  readonly #affinities = new Map<string, Affinity>();
  /** Of each Service's backends, since when. */
  readonly #since = new Map<ServiceKey, { readonly clients: string; readonly of: ReadonlyMap<string, number> }>();
  #changes = 0;

  constructor(plan: Plan, flows: StandingFlows) {
    this.#plan = plan;
    this.#flows = flows;
  }

  /** What a Service is from now on: a backend that comes back is another one, and so are all where clients are others. */
  set({ at, value }: Extract<Step, { kind: 'service' }>): void {
    const known = this.#since.get(serviceKey(at));
    const clients = clientsText(value?.clients);
    const before = known?.clients === clients ? known.of : null;
    const now = ++this.#changes;
    const backends = (value?.backends ?? []).map(endOf);
    this.#since.set(serviceKey(at), { clients, of: new Map(backends.map((end) => [end, before?.get(end) ?? now])) });
  }

  /** Where a packet of a pod of this node goes, whose destination is not here. */
  translate({ tuple, segment, mayTurn, nowNs }: Passage): Sent {
    if (![TCP, UDP, SCTP].includes(tuple.protocol)) return AS_SENT;
    const service = { address: tuple.destination, port: tuple.destinationPort };
    const known = this.#translationOf(tuple, service, nowNs);
    const opens = tuple.protocol !== TCP || isOpening(segment);
    if (known !== null && (!opens || this.#serves(tuple, known))) return to(tuple, known);
    return opens ? this.#choose({ tuple, service, mayTurn, nowNs }) : AS_SENT;
  }

  /** The flow that the packet belongs to stands, and goes to this backend. */
  note(tuple: Tuple, { backend, since }: Serving): void {
    this.#translations.set(nameOf(tuple), { backend, since });
  }

  /** The backend that answers a pod's flow as the Service to which the pod's packets go. */
  answering(tuple: Tuple, nowNs: bigint): Backend | null {
    const service = { address: tuple.destination, port: tuple.destinationPort };
    return this.#translationOf(tuple, service, nowNs)?.backend ?? null;
  }

  #translationOf(tuple: Tuple, service: Backend, nowNs: bigint): Serving | null {
    const known = this.#translations.get(nameOf(tuple));
    return known !== undefined && this.#flows.standing(toBackend(tuple, known.backend), service, nowNs) === 'this'
      ? known
      : null;
  }

  /** As `#pick`; where the Service keeps its clients, with whom they were. */
  #choose(flow: Beginning): Sent {
    const { tuple, nowNs } = flow;
    const found = this.#serviceOf(tuple);
    if (found === undefined) return AS_SENT;
    const { affinitySeconds, clients } = found;
    const isClient = clients === undefined || clients.blocks.some((block) => cidrContains(block, tuple.source));
    if (!isClient) return { kind: 'drop', reason: 'no-backend' };
    if (affinitySeconds === undefined) return this.#pick(found, flow, flowHash(tuple));
    const client = nameOf({ ...tuple, sourcePort: 0 });
    const before = this.#affinities.get(client);
    const known = before !== undefined && nowNs - before.lastNs < BigInt(affinitySeconds) * SECOND ? before : null;
    const hash = known?.hash ?? flowHash(tuple);
    const kept = known !== null && this.#serves(tuple, known) ? known : null;
    const isFree = kept !== null && ['none', 'this'].includes(this.#standing(flow, kept.backend));
    const sent = isFree ? to(tuple, kept) : this.#pick(found, flow, hash);
    if (sent.kind === 'to') this.#affinities.set(client, { ...sent, hash, lastNs: nowNs });
    return sent;
  }

  #pick({ backends, places }: PlanService, flow: Beginning, hash: number): Sent {
    const { tuple } = flow;
    const first = reduceHash(hash, places.length);
    let spare: Serving | null = null;
    for (let tried = 0; tried < Math.min(PLACES_TRIED, places.length); tried++) {
      const backend = backends[places[(first + tried) % places.length] ?? -1];
      if (backend === undefined) return { kind: 'drop', reason: 'table-error' };
      const standing = this.#standing(flow, backend);
      const serving = { backend, since: this.#sinceOf(tuple, backend) };
      if (standing === 'none' || standing === 'this') return to(tuple, serving);
      if (standing === 'spare') spare ??= serving;
    }
    return spare === null ? { kind: 'drop', reason: 'no-backend' } : to(tuple, spare);
  }

  #standing({ tuple, service, mayTurn, nowNs }: Beginning, backend: Backend): Standing {
    const onwards = toBackend(tuple, backend);
    const isLost = isToItself(onwards) && !(mayTurn && canTurn(onwards));
    return isLost ? 'another' : this.#flows.standing(onwards, service, nowNs);
  }

  #serves(tuple: Tuple, { backend, since }: Serving): boolean {
    return this.#sinceOf(tuple, backend) === since;
  }

  /** 0 = it serves no more. */
  #sinceOf({ destination, destinationPort, protocol }: Tuple, backend: Backend): number {
    const key = serviceKey({ address: destination, port: destinationPort, protocol });
    return this.#since.get(key)?.of.get(endOf(backend)) ?? 0;
  }

  #serviceOf({ destination, destinationPort, protocol }: Tuple): PlanService | undefined {
    return this.#plan.services.get(serviceKey({ address: destination, port: destinationPort, protocol }));
  }
}

/** The packet's tuple once it goes to a backend. */
export function toBackend(tuple: Tuple, { address, port }: Backend): Tuple {
  return { ...tuple, destination: address, destinationPort: port, policyPort: port };
}

export function sameBackend(a: Backend, b: Backend): boolean {
  return endOf(a) === endOf(b);
}

/** A Service sent it back to its sender. */
export function isToItself({ source, destination }: Tuple): boolean {
  return formatAddress(source) === formatAddress(destination);
}

/** Of two ports that are one, neither would be the initiator's. */
export function canTurn({ sourcePort, destinationPort }: Tuple): boolean {
  return sourcePort !== destinationPort;
}

/** SCTP's sum is over the ports, and not one that can be changed. */
function to(tuple: Tuple, { backend, since }: Serving): Sent {
  const isSpoilt = tuple.protocol === SCTP && tuple.destinationPort !== backend.port;
  return isSpoilt ? { kind: 'drop', reason: 'no-backend' } : { kind: 'to', backend, since };
}

function endOf({ address, port }: Backend): string {
  return `${formatAddress(address)} ${port}`;
}

function nameOf({ source, sourcePort, destination, destinationPort, protocol }: Tuple): string {
  return `${formatAddress(source)} ${sourcePort} ${formatAddress(destination)} ${destinationPort} ${protocol}`;
}

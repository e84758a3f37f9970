// Addresses that Services want besides those that the API server gave them: none of a Service's own cluster addresses is had by
// another one's `externalIPs` or balancer, at no port, whoever came first. Else who writes these would answer for the other.
import { type ServiceAddress, type ServiceKey, serviceKey } from '#compile/plan.ts';
import { formatAddress } from '#net/address.ts';
import { namespaceOf, type Service } from '#policy/service.ts';
import { isOuter, type Served } from './tables.ts';

/** What a Service asks for and nobody gets. */
export type Refusal = {
  readonly at: ServiceAddress;
  readonly service: string;
  /** Of the Service. */
  readonly field: 'spec.externalIPs' | 'status.loadBalancer.ingress';
  /** The Service whose address it is. */
  readonly owner: string;
};

export class WantedAddresses {
  /** The Services with this cluster address, by its text. */
  readonly #owners = new Map<string, Set<string>>();
  /** What is wanted besides, by the address. */
  readonly #outer = new Map<string, Map<ServiceKey, ServiceAddress>>();
  readonly #refused = new Map<ServiceKey, Refusal>();

  /** What a Service's cluster addresses are from now on. Returns where others are refused, or no more. */
  own(name: string, before: Service | undefined, now: Service | undefined): readonly ServiceAddress[] {
    const had = new Set(before?.clusterAddresses.map(formatAddress));
    const has = new Set(now?.clusterAddresses.map(formatAddress));
    const changed: string[] = [];
    for (const text of had) if (!has.has(text) && drop(this.#owners, text, name)) changed.push(text);
    for (const text of has) {
      if (!this.#owners.has(text)) changed.push(text);
      this.#owners.set(text, (this.#owners.get(text) ?? new Set()).add(name));
    }
    return changed.flatMap((text) => [...(this.#outer.get(text)?.values() ?? [])]);
  }

  /** Somebody wants this, or nobody any more. */
  want(at: ServiceAddress, isWanted: boolean): void {
    const text = formatAddress(at.address);
    const wanted = this.#outer.get(text) ?? new Map<ServiceKey, ServiceAddress>();
    if (isWanted) wanted.set(serviceKey(at), at);
    else wanted.delete(serviceKey(at));
    if (wanted.size === 0) this.#outer.delete(text);
    else this.#outer.set(text, wanted);
  }

  /** True where the first to want an address and port is not to have it; `refusals` say so from then on. */
  refuses(key: ServiceKey, first: readonly [service: string, served: Served] | undefined): boolean {
    this.#refused.delete(key);
    if (first === undefined || !isOuter(first[1])) return false;
    const [owner] = this.#owners.get(formatAddress(first[1].address)) ?? [];
    if (owner === undefined) return false;
    const { address, protocol, port, claim } = first[1];
    const field = claim === 'external' ? 'spec.externalIPs' : 'status.loadBalancer.ingress';
    this.#refused.set(key, { at: { address, protocol, port }, service: first[0], field, owner });
    return true;
  }

  get refusals(): readonly Refusal[] {
    return [...this.#refused.values()];
  }
}

/** What to say of them, and what to do: once for a namespace, however many its authors make. */
export function refusalTexts(refusals: readonly Refusal[]): readonly string[] {
  const namespaces = Map.groupBy(refusals, ({ service }) => namespaceOf(service));
  return [...namespaces].map(([namespace, all]) => {
    const [first] = all;
    if (first === undefined) throw new Error(`nothing of ${namespace} is refused`);
    const { service, at, field, owner } = first;
    const others = new Set(all.map((each) => `${each.service} ${formatAddress(each.at.address)}`)).size - 1;
    const more = others === 0 ? '' : `, and ${others} more of namespace ${namespace}`;
    const whose = owner === service ? 'its own cluster address' : `a cluster address of Service ${owner}`;
    return (
      `Service ${service}, ${field}: ${formatAddress(at.address)} is ${whose}${more}: ` +
      'nobody gets it by that; name an address that is routed to the nodes from outside'
    );
  });
}

/** True where it was the last. */
function drop(owners: Map<string, Set<string>>, text: string, name: string): boolean {
  owners.get(text)?.delete(name);
  return owners.get(text)?.size === 0 && owners.delete(text);
}

// Names on the command line → addresses: a pod, a workload, or an address as it is.
import { type Address, parseAddress } from '#net/address.ts';
import { isEndpoint, type Pod, podKey, type World } from '#policy/world.ts';
import { CommandError } from './errors.ts';

/** What a name stands for. Of a workload, its first pod by name. */
export type NamedPlace = { readonly name: string; readonly addresses: readonly Address[] };

/** Finds `NS/POD`, `NS/WORKLOAD` or an IP address; ends the command where there is none. */
export function findPlace(world: World, text: string, option: string): NamedPlace {
  const address = parseAddress(text);
  if (address !== null) return { name: text, addresses: [address] };
  const [namespace, name, ...rest] = text.split('/');
  if (!namespace || !name || rest.length > 0) {
    throw new CommandError(`${option} ${text}: write NAMESPACE/POD, NAMESPACE/WORKLOAD or an IP address`);
  }
  const pod = world.pods.get(podKey(namespace, name)) ?? firstOfWorkload(world, namespace, name);
  if (pod === undefined)
    throw new CommandError(`${option} ${text}: no pod or workload has this name${hint(world, namespace)}`);
  if (pod.addresses.length === 0 || pod.finished)
    throw new CommandError(`${option} ${text}: the pod has no address (it has finished, or was never placed)`);
  return { name: pod.key, addresses: pod.addresses };
}

/** An address of each end. */
export type AddressPair = { readonly from: Address; readonly to: Address };

/**
 * An address of each for every family that both have, in the destination's order; ends the command where they have
 * none in common.
 */
export function commonFamilies(from: NamedPlace, to: NamedPlace): readonly [AddressPair, AddressPair?] {
  const pairs = new Map<number, AddressPair>();
  for (const destination of to.addresses) {
    const { family } = destination;
    const source = from.addresses.find((address) => address.family === family);
    if (source !== undefined && !pairs.has(family)) pairs.set(family, { from: source, to: destination });
  }
  const [first, other] = pairs.values();
  if (first === undefined) throw new CommandError(`${from.name} and ${to.name} have no address family in common`);
  return other === undefined ? [first] : [first, other];
}

function firstOfWorkload(world: World, namespace: string, name: string): Pod | undefined {
  const members = [...world.pods.values()].filter(
    ({ workload }) => workload.namespace === namespace && workload.name === name,
  );
  return members.find(isEndpoint) ?? members[0];
}

/** The names that would have done, as far as they fit on a line. */
function hint(world: World, namespace: string): string {
  const names = [...world.pods.values()]
    .filter((pod) => pod.namespace === namespace)
    .map(({ workload }) => `${workload.namespace}/${workload.name}`);
  if (names.length === 0) return `; there is no pod in namespace ${namespace}`;
  const known = [...new Set(names)];
  return `; there is ${known.slice(0, 6).join(', ')}${known.length > 6 ? ' …' : ''}`;
}

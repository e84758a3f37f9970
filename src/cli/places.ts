// Names on the command line → addresses: a pod, a workload, or an address as it is.
import { type Address, parseAddress } from '#net/address.ts';
import { isEndpoint, type Pod, podKey, type World } from '#policy/world.ts';
import { CommandError } from './errors.ts';
import { nearest } from './nearest.ts';

/** What a name stands for. Of a workload, its first pod by name. */
export type NamedPlace = { readonly name: string; readonly addresses: readonly Address[] };

/** Finds `NS/POD`, `NS/WORKLOAD` or an IP address; ends the command where there is none. */
export function findPlace(world: World, text: string, option: string): NamedPlace {
  const address = parseAddress(text);
  if (address !== null) return { name: text, addresses: [address] };
  const [namespace, name, ...rest] = text.split('/');
  if (!namespace || !name || rest.length > 0) {
    const meant = rest.length > 0 ? '' : inSomeNamespace(world, text);
    throw new CommandError(`${option} ${text}: write NAMESPACE/POD, NAMESPACE/WORKLOAD or an IP address${meant}`);
  }
  const pod = world.pods.get(podKey(namespace, name)) ?? firstOfWorkload(world, namespace, name);
  if (pod === undefined)
    throw new CommandError(`${option} ${text}: no pod or workload has this name${hint(world, text)}`);
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

/** What was meant, as far as it can be guessed; else the names that would have done, as far as they fit on a line. */
function hint(world: World, text: string): string {
  const named = [...world.pods.values()];
  const workloads = new Set(named.map(({ workload }) => `${workload.namespace}/${workload.name}`));
  const meant = nearest(text, [...new Set([...workloads, ...world.pods.keys()])]);
  if (meant.length > 0) return `; did you mean ${meant.join(' or ')}?`;
  const [namespace = ''] = text.split('/');
  const there = [...workloads].filter((name) => name.startsWith(`${namespace}/`));
  if (there.length > 0) return `; there is ${some(there)}`;
  const namespaces = new Set(named.map((pod) => pod.namespace));
  const others = namespaces.size === 0 ? '' : `, only in ${some([...namespaces])}`;
  return `; there is no pod in namespace ${namespace}${others}`;
}

/** Where the namespace was left out: pods and workloads of that name in any. */
function inSomeNamespace(world: World, name: string): string {
  const found = [...world.pods.values()].flatMap((pod) => {
    if (pod.workload.name === name) return [`${pod.workload.namespace}/${name}`];
    return pod.name === name ? [pod.key] : [];
  });
  return found.length === 0 ? '' : `; did you mean ${some([...new Set(found)])}?`;
}

function some(names: readonly string[]): string {
  return `${names.slice(0, 6).join(', ')}${names.length > 6 ? ' …' : ''}`;
}

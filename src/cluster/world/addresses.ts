// One address, one holder: what the input gives twice stays with the first, and is named.
import { type Address, formatAddress } from '#net/address.ts';
import type { Diagnostic } from '#policy/diagnostic.ts';
import type { SourceObject } from '#policy/object.ts';
import type { Node, Pod, PodKey } from '#policy/world.ts';
import { complainOf, placeOf } from './inventory.ts';

export type Separated = {
  readonly nodes: ReadonlyMap<string, Node>;
  readonly pods: ReadonlyMap<PodKey, Pod>;
  readonly diagnostics: readonly Diagnostic[];
};

/**
 * Takes an address from every node or running pod that is not the first to have it: nobody can say whose it is, and
 * a pod with a node's address would pass for the node. hostNetwork pods share their node's, finished pods have none.
 */
export function separateAddresses(
  objects: readonly SourceObject[],
  nodes: ReadonlyMap<string, Node>,
  pods: ReadonlyMap<PodKey, Pod>,
): Separated {
  const holders = new Map<string, string>();
  const diagnostics: Diagnostic[] = [];
  const keep = (addresses: readonly Address[], what: string, object: SourceObject): readonly Address[] =>
    addresses.filter((address) => {
      const text = formatAddress(address);
      const holder = holders.get(text);
      if (holder === undefined) holders.set(text, `${what}${placeOf(object)}`);
      else diagnostics.push(sharedAddress(object, text, holder));
      return holder === undefined;
    });
  const find = objectFinder(objects);
  const ownNodes = [...nodes.values()].map((node): [string, Node] => {
    const object = find('Node', '', node.name) ?? unnamed({ kind: 'Node', namespace: '', name: node.name });
    return [node.name, { ...node, addresses: keep(node.addresses, `the node ${node.name}`, object) }];
  });
  const ownPods = [...pods.values()].map((pod): [PodKey, Pod] => {
    if (pod.hostNetwork || pod.finished) return [pod.key, pod];
    const object = find('Pod', pod.namespace, pod.name) ?? unnamed({ kind: 'Pod', ...pod });
    return [pod.key, { ...pod, addresses: keep(pod.addresses, `the running pod ${pod.key}`, object) }];
  });
  return { nodes: new Map(ownNodes), pods: new Map(ownPods), diagnostics };
}

/** Stands for what no object of the input is: a pod that was made for a workload, a node that pods name. */
export function unnamed({ kind, namespace, name }: Pick<SourceObject, 'kind' | 'namespace' | 'name'>): SourceObject {
  return { apiVersion: 'v1', kind, namespace, name, content: null, origin: null };
}

type Finder = (kind: string, namespace: string, name: string) => SourceObject | undefined;

function objectFinder(objects: readonly SourceObject[]): Finder {
  const byName = new Map(objects.map((object) => [`${object.kind}/${object.namespace}/${object.name}`, object]));
  return (kind, namespace, name) => byName.get(`${kind}/${namespace}/${name}`);
}

function sharedAddress(object: SourceObject, address: string, holder: string): Diagnostic {
  return complainOf(object, object.kind === 'Node' ? 'status.addresses' : 'status.podIP', {
    code: 'address-shared',
    message: `the address ${address} is also that of ${holder}`,
    hint: 'Give one of them another address, or mark the pod hostNetwork or finished (status.phase).',
  });
}

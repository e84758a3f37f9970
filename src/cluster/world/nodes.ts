// Nodes of the input: Node objects, and those that pods name.
import { nameStanding } from '#cluster/manifests/stand-in.ts';
import { type Address, formatAddress, parseAddress } from '#net/address.ts';
import { type Cidr, parseCidr } from '#net/cidr.ts';
import type { Diagnostic } from '#policy/diagnostic.ts';
import { fieldsOf, isAbsent, itemsOf } from '#policy/fields.ts';
import type { SourceObject } from '#policy/object.ts';
import type { Node } from '#policy/world.ts';
import { fieldAt, itemsAt, type LocatedFields, mappingAt, mappingsAt, type Notes, noteField, rootOf } from './notes.ts';
import { readLabels } from './pod.ts';

export type FoundNodes = { readonly nodes: ReadonlyMap<string, Node>; readonly diagnostics: readonly Diagnostic[] };

/** Node objects, then nodes that only a pod's nodeName tells of, with the address that its status.hostIP gives. */
export function findNodes(objects: readonly SourceObject[]): FoundNodes {
  const nodes = new Map<string, Node>();
  const diagnostics: Diagnostic[] = [];
  for (const object of objects) {
    if (object.kind === 'Node') nodes.set(object.name, readNode({ object, diagnostics }));
  }
  const declared = new Set(nodes.keys());
  for (const object of objects) {
    const spec = fieldsOf(fieldsOf(object.content).spec);
    const name = spec.nodeName;
    if (object.kind !== 'Pod' || typeof name !== 'string' || declared.has(name)) continue;
    if (nameStanding('name', name) === 'unsafe') continue;
    const known = nodes.get(name)?.addresses ?? [];
    const addresses = distinct([...known, ...hostAddresses(object)]);
    nodes.set(name, { name, labels: { 'kubernetes.io/hostname': name }, addresses, podCidrs: [] });
  }
  return { nodes, diagnostics };
}

/** A Node object: its labels, its addresses inside the cluster, the blocks that its pods get addresses from. */
export function readNode(notes: Notes): Node {
  const root = rootOf(notes);
  return {
    name: notes.object.name,
    labels: readLabels(notes, mappingAt(notes, root, 'metadata')),
    addresses: distinct(internalAddresses(notes, mappingAt(notes, root, 'status'))),
    podCidrs: podBlocks(notes, mappingAt(notes, root, 'spec')),
  };
}

function internalAddresses(notes: Notes, status: LocatedFields): Address[] {
  const internal = mappingsAt(notes, status, 'addresses').filter(({ value }) => value.type === 'InternalIP');
  return internal.flatMap((item) => {
    const at = fieldAt(item, 'address');
    const parsed = typeof at.value === 'string' ? parseAddress(at.value) : null;
    if (parsed === null) noteField(notes, at, 'an IP address');
    return parsed === null ? [] : [parsed];
  });
}

function podBlocks(notes: Notes, spec: LocatedFields): Cidr[] {
  const listed = itemsAt(notes, spec, 'podCIDRs');
  const single = fieldAt(spec, 'podCIDR');
  const given = listed.length > 0 || isAbsent(single.value) ? listed : [single];
  return given.flatMap((at) => {
    const parsed = typeof at.value === 'string' ? parseCidr(at.value) : null;
    if (parsed === null) noteField(notes, at, 'a CIDR');
    return parsed === null ? [] : [parsed.cidr];
  });
}

function hostAddresses(pod: SourceObject): Address[] {
  const status = fieldsOf(fieldsOf(pod.content).status);
  const listed = itemsOf(status.hostIPs).map((item) => fieldsOf(item).ip);
  return [status.hostIP, ...listed]
    .map((text) => (typeof text === 'string' ? parseAddress(text) : null))
    .filter((address) => address !== null);
}

function distinct(addresses: readonly Address[]): Address[] {
  return [...new Map(addresses.map((address) => [formatAddress(address), address])).values()];
}

// Nodes of the input: Node objects, and those that pods name.
import { type Address, formatAddress, parseAddress } from '#net/address.ts';
import { type Cidr, parseCidr } from '#net/cidr.ts';
import type { Diagnostic } from '#policy/diagnostic.ts';
import { fieldsOf, isAbsent, itemsOf } from '#policy/fields.ts';
import type { SourceObject } from '#policy/object.ts';
import type { Node } from '#policy/world.ts';
import { type Notes, noteField, readLabels } from './pod.ts';

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
    if (object.kind !== 'Pod' || typeof name !== 'string' || name === '' || declared.has(name)) continue;
    const known = nodes.get(name)?.addresses ?? [];
    const addresses = distinct([...known, ...hostAddresses(object)]);
    nodes.set(name, { name, labels: { 'kubernetes.io/hostname': name }, addresses, podCidrs: [] });
  }
  return { nodes, diagnostics };
}

function readNode(notes: Notes): Node {
  const content = fieldsOf(notes.object.content);
  return {
    name: notes.object.name,
    labels: readLabels(notes, fieldsOf(content.metadata).labels, 'metadata.labels'),
    addresses: distinct(internalAddresses(notes, itemsOf(fieldsOf(content.status).addresses))),
    podCidrs: podBlocks(notes, fieldsOf(content.spec)),
  };
}

function internalAddresses(notes: Notes, items: readonly unknown[]): Address[] {
  const found: Address[] = [];
  for (const [index, item] of items.entries()) {
    const { type, address } = fieldsOf(item);
    if (type !== 'InternalIP') continue;
    const parsed = typeof address === 'string' ? parseAddress(address) : null;
    if (parsed !== null) found.push(parsed);
    else noteField(notes, `status.addresses[${index}].address`, { found: address, wanted: 'an IP address' });
  }
  return found;
}

function podBlocks(notes: Notes, spec: Readonly<Record<string, unknown>>): Cidr[] {
  const listed = itemsOf(spec.podCIDRs);
  const texts = listed.length > 0 ? listed : isAbsent(spec.podCIDR) ? [] : [spec.podCIDR];
  const blocks: Cidr[] = [];
  for (const text of texts) {
    const parsed = typeof text === 'string' ? parseCidr(text) : null;
    if (parsed !== null) blocks.push(parsed.cidr);
    else noteField(notes, 'spec.podCIDRs', { found: text, wanted: 'a CIDR' });
  }
  return blocks;
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

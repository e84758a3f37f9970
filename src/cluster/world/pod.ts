// A pod, or a workload's pod template, as the world knows pods: labels, ports, addresses, phase.
import { type Address, parseAddress } from '#net/address.ts';
import { protocolNumber } from '#net/protocol.ts';
import type { Diagnostic } from '#policy/diagnostic.ts';
import { describe, fieldsOf, isAbsent, isFields, itemsOf, show } from '#policy/fields.ts';
import { childPath, type FieldPath, itemPath, type SourceObject } from '#policy/object.ts';
import type { Labels } from '#policy/selector.ts';
import type { NamedPort } from '#policy/world.ts';
import { complainOf } from './inventory.ts';

/** What a pod's metadata and spec say. Everything about where and how it runs comes later. */
export type PodShape = {
  readonly labels: Labels;
  readonly ports: readonly NamedPort[];
  readonly hostNetwork: boolean;
  /** '' where the spec names no node. */
  readonly nodeName: string;
};

export type PodStatus = { readonly addresses: readonly Address[]; readonly finished: boolean };

/** Where findings about an object go. */
export type Notes = { readonly object: SourceObject; readonly diagnostics: Diagnostic[] };

/** Reads `metadata` and `spec` of a pod or of a template that stands at `path`. */
export function readPodShape(notes: Notes, pod: unknown, path: FieldPath): PodShape {
  const fields = fieldsOf(pod);
  const spec = fieldsOf(fields.spec);
  const specPath = childPath(path, 'spec');
  return {
    labels: readLabels(notes, fieldsOf(fields.metadata).labels, childPath(childPath(path, 'metadata'), 'labels')),
    ports: readPorts(notes, spec, specPath),
    hostNetwork: spec.hostNetwork === true,
    nodeName: typeof spec.nodeName === 'string' ? spec.nodeName : '',
  };
}

/** Labels; one that is no text is named, and left out. */
export function readLabels(notes: Notes, value: unknown, path: FieldPath): Labels {
  if (isAbsent(value)) return {};
  if (!isFields(value)) {
    noteField(notes, path, { found: value, wanted: 'a mapping of labels' });
    return {};
  }
  const entries: [string, string][] = [];
  for (const [key, label] of Object.entries(value)) {
    if (typeof label === 'string') entries.push([key, label]);
    else noteField(notes, childPath(path, key), { found: label, wanted: 'text, in quotes,' });
  }
  return Object.fromEntries(entries);
}

/** `status.podIP`, `status.podIPs` and `status.phase`. A pod that is being deleted still runs until its phase says otherwise. */
export function readPodStatus(notes: Notes): PodStatus {
  const status = fieldsOf(fieldsOf(notes.object.content).status);
  const listed = itemsOf(status.podIPs).map((item) => fieldsOf(item).ip);
  const texts = [status.podIP, ...listed].filter((text) => !isAbsent(text) && text !== '');
  const addresses: Address[] = [];
  for (const text of new Set(texts)) {
    const address = typeof text === 'string' ? parseAddress(text) : null;
    if (address === null) noteField(notes, 'status.podIP', { found: text, wanted: 'an IP address' });
    else addresses.push(address);
  }
  return { addresses, finished: status.phase === 'Succeeded' || status.phase === 'Failed' };
}

/** Named ports of the containers, and of init containers that keep running beside them (sidecars). */
function readPorts(notes: Notes, spec: Readonly<Record<string, unknown>>, path: FieldPath): NamedPort[] {
  const sidecar = (container: unknown): boolean => fieldsOf(container).restartPolicy === 'Always';
  const lists = [
    { name: 'containers', items: itemsOf(spec.containers) },
    { name: 'initContainers', items: itemsOf(spec.initContainers).map((item) => (sidecar(item) ? item : null)) },
  ];
  return lists.flatMap(({ name, items }) =>
    items.flatMap((container, index) => {
      const at = childPath(itemPath(childPath(path, name), index), 'ports');
      return itemsOf(fieldsOf(container).ports).flatMap((port, number) => readPort(notes, port, itemPath(at, number)));
    }),
  );
}

function readPort(notes: Notes, value: unknown, path: FieldPath): NamedPort[] {
  const { name, containerPort, protocol = 'TCP' } = fieldsOf(value);
  if (isAbsent(name)) return [];
  const number = typeof protocol === 'string' ? protocolNumber(protocol) : null;
  if (typeof name !== 'string' || number === null || !isPortNumber(containerPort)) {
    const complaint = {
      code: 'pod-port',
      message: `the port ${show(name)} has no containerPort of 1..65535, or no known protocol`,
      hint: 'Write containerPort as a number; until then no policy can name this port.',
    } as const;
    notes.diagnostics.push(complainOf(notes.object, path, complaint));
    return [];
  }
  return [{ name, protocol: number, port: containerPort }];
}

function isPortNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 65535;
}

/** Notes a field that has another type or value than the API allows. */
export function noteField(notes: Notes, path: FieldPath, { found, wanted }: { found: unknown; wanted: string }): void {
  notes.diagnostics.push(
    complainOf(notes.object, path, {
      code: 'object-field',
      message: `found ${describe(found)} where ${wanted} is expected`,
      hint: 'Correct the field; the Kubernetes API refuses it too.',
    }),
  );
}

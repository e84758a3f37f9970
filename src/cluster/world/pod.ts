// A pod, or a workload's pod template, as the world knows pods: labels, ports, addresses, phase.
import { nameStanding } from '#cluster/manifests/stand-in.ts';
import { labelKeyFault, labelValueFault } from '#dialects/kubernetes/names.ts';
import { type Address, type AddressKey, formatAddress, parseAddress } from '#net/address.ts';
import { type Protocol, protocolNumber } from '#net/protocol.ts';
import { isAbsent, show } from '#policy/fields.ts';
import { childPath } from '#policy/object.ts';
import type { Labels } from '#policy/selector.ts';
import type { NamedPort } from '#policy/world.ts';
import { complainOf } from './inventory.ts';
import {
  fieldAt,
  flagAt,
  type LocatedFields,
  mappingAt,
  mappingsAt,
  type Notes,
  noteField,
  rootOf,
  textAt,
} from './notes.ts';

/** What a pod's metadata and spec say. Everything about where and how it runs comes later. */
export type PodShape = {
  readonly labels: Labels;
  readonly ports: readonly NamedPort[];
  readonly namelessPorts: readonly Omit<NamedPort, 'name'>[];
  readonly hostNetwork: boolean;
  /** '' where the spec names no node. */
  readonly nodeName: string;
};

export type PodStatus = {
  readonly addresses: readonly Address[];
  readonly finished: boolean;
  /** The pod's address is its host's: it is on the host's network, whether the spec (often cut short) says so or not. */
  readonly sharesHost: boolean;
};

/** Reads `metadata` and `spec` of a pod, or of a template. */
export function readPodShape(notes: Notes, pod: LocatedFields): PodShape {
  const spec = mappingAt(notes, pod, 'spec');
  const declared = declaredPorts(notes, spec);
  return {
    labels: readLabels(notes, mappingAt(notes, pod, 'metadata')),
    ports: declared.flatMap((port) => readNamedPort(notes, port)),
    namelessPorts: declared.flatMap(readNamelessPort),
    hostNetwork: flagAt(notes, spec, 'hostNetwork'),
    nodeName: readNodeName(notes, spec),
  };
}

function readNodeName(notes: Notes, spec: LocatedFields): string {
  const name = textAt(notes, spec, 'nodeName');
  if (name === '' || nameStanding('name', name) !== 'unsafe') return name;
  noteField(notes, fieldAt(spec, 'nodeName'), 'the name of a node');
  return '';
}

/** The labels of a metadata; one that no object of a cluster can have is named, and left out. */
export function readLabels(notes: Notes, metadata: LocatedFields): Labels {
  const { value, path } = mappingAt(notes, metadata, 'labels');
  const entries: [string, string][] = [];
  for (const [key, label] of Object.entries(value)) {
    if (typeof label !== 'string') noteField(notes, { value: label, path: childPath(path, key) }, 'text, in quotes,');
    else if (isLabel(notes, { key, label, path })) entries.push([key, label]);
  }
  return Object.fromEntries(entries);
}

/** A label that Kubernetes would refuse is named; one that could drive a terminal, or is far too long, is left out. */
function isLabel(
  notes: Notes,
  { key, label, path }: { readonly key: string; readonly label: string; readonly path: string },
): boolean {
  const keyFault = labelKeyFault(key);
  const fault = keyFault ?? labelValueFault(label);
  if (fault === null) return true;
  const harmless = HARMLESS_TEXT.test(key) && HARMLESS_TEXT.test(label);
  const what = keyFault === null ? `the label value ${show(label)}` : `the label key ${show(key)}`;
  notes.diagnostics.push(
    complainOf(notes.object, childPath(path, key), {
      code: harmless ? 'object-label' : 'object-field',
      message: `${what} ${fault}${harmless ? '' : '; the label is left out'}`,
      hint: 'Correct it; the Kubernetes API refuses it.',
    }),
  );
  return harmless;
}

const HARMLESS_TEXT = /^[\x20-\x7e]{0,317}$/;

/** `status.podIP`, `podIPs` and `phase`. A pod that is being deleted still runs until its phase says otherwise. */
export function readPodStatus(notes: Notes): PodStatus {
  const status = mappingAt(notes, rootOf(notes), 'status');
  const listed = mappingsAt(notes, status, 'podIPs').map((item) => fieldAt(item, 'ip'));
  const given = [fieldAt(status, 'podIP'), ...listed].filter(({ value }) => !isAbsent(value) && value !== '');
  const addresses = new Map<AddressKey, Address>();
  for (const at of given) {
    const address = typeof at.value === 'string' ? parseAddress(at.value) : null;
    if (address === null) noteField(notes, at, 'an IP address');
    else addresses.set(formatAddress(address), address);
  }
  const phase = textAt(notes, status, 'phase');
  const hostIp = textAt(notes, status, 'hostIP');
  const sharesHost = hostIp !== '' && hostIp === fieldAt(status, 'podIP').value;
  return { addresses: [...addresses.values()], finished: phase === 'Succeeded' || phase === 'Failed', sharesHost };
}

/** Ports of the containers, and of init containers that keep running beside them (sidecars). */
function declaredPorts(notes: Notes, spec: LocatedFields): readonly LocatedFields[] {
  const sidecars = mappingsAt(notes, spec, 'initContainers').filter(({ value }) => value.restartPolicy === 'Always');
  const containers = [...mappingsAt(notes, spec, 'containers'), ...sidecars];
  return containers.flatMap((container) => mappingsAt(notes, container, 'ports'));
}

function readNamedPort(notes: Notes, port: LocatedFields): NamedPort[] {
  const { name, containerPort, protocol } = port.value;
  if (!isAbsent(containerPort) && !isPortNumber(containerPort)) {
    noteField(notes, fieldAt(port, 'containerPort'), 'a port number of 1..65535');
    return [];
  }
  if (isAbsent(name)) return [];
  const known = readProtocol(protocol);
  if (typeof name === 'string' && known !== null && isPortNumber(containerPort)) {
    return [{ name, protocol: known, port: containerPort }];
  }
  const complaint = {
    code: 'pod-port',
    message: `the port ${show(name)} has no containerPort, or no known protocol`,
    hint: 'Write containerPort as a number; until then no policy can name this port.',
  } as const;
  notes.diagnostics.push(complainOf(notes.object, port.path, complaint));
  return [];
}

/** What is wrong with it has been said by `readNamedPort`. */
function readNamelessPort({ value }: LocatedFields): Omit<NamedPort, 'name'>[] {
  const { name, containerPort, protocol } = value;
  const known = readProtocol(protocol);
  return isAbsent(name) && known !== null && isPortNumber(containerPort)
    ? [{ protocol: known, port: containerPort }]
    : [];
}

function readProtocol(protocol: unknown): Protocol | null {
  const name = isAbsent(protocol) ? 'TCP' : protocol;
  return typeof name === 'string' ? protocolNumber(name) : null;
}

function isPortNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 65535;
}

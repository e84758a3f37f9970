// Service and EndpointSlice objects, as far as packets are concerned.
import { type Address, parseAddress } from '#net/address.ts';
import { type Cidr, parseCidr } from '#net/cidr.ts';
import { type Protocol, protocolNumber, TCP } from '#net/protocol.ts';
import { isAbsent } from '#policy/fields.ts';
import type { EndpointSlice, Service, ServicePort, SliceEndpoint, TopologyHints } from '#policy/service.ts';
import { complainOf } from './inventory.ts';
import {
  countAt,
  fieldAt,
  flagAt,
  itemsAt,
  type Located,
  type LocatedFields,
  mappingAt,
  mappingsAt,
  type Notes,
  noteField,
  rootOf,
  textAt,
} from './notes.ts';

/** `sessionAffinityConfig.clientIP.timeoutSeconds` where it is missing, and the most that the API takes: three hours, a day. */
const DEFAULT_AFFINITY_S = 10_800;
const MOST_AFFINITY_S = 86_400;

/** Of clients of a balancer. */
const MOST_RANGES = 4096;

/** A slice says by this label whose endpoints it has. */
const OWNER = 'kubernetes.io/service-name';
/** A Service that has one of these labels, with whatever value, is another proxy's, or nobody's: the API's well-known labels. */
const OTHERS = ['service.kubernetes.io/service-proxy-name', 'service.kubernetes.io/headless'];

/** A Service: its cluster addresses, none where it is headless or not for Moat to serve. */
export function readService(notes: Notes): Service {
  const { namespace, name } = notes.object;
  const spec = mappingAt(notes, rootOf(notes), 'spec');
  const labels = labelsOf(notes);
  const served = !OTHERS.some((label) => Object.hasOwn(labels, label));
  const status = mappingAt(notes, rootOf(notes), 'status');
  return {
    namespace,
    name,
    clusterAddresses: served ? clusterAddresses(notes, spec) : [],
    balancerAddresses: served ? balancerAddresses(notes, spec, status) : [],
    externalAddresses: served ? itemsAt(notes, spec, 'externalIPs').flatMap((at) => readAddress(notes, at)) : [],
    ports: mappingsAt(notes, spec, 'ports').flatMap((port) => readServicePort(notes, spec, port)),
    nodeLocal: textAt(notes, spec, 'internalTrafficPolicy') === 'Local',
    outsideLocal: textAt(notes, spec, 'externalTrafficPolicy') === 'Local',
    affinitySeconds: textAt(notes, spec, 'sessionAffinity') === 'ClientIP' ? affinitySeconds(notes, spec) : null,
    ...(served ? { ...readClients(notes, spec), ...readHealthPort(notes, spec) } : {}),
  };
}

/** A slice; null where it is nobody's, or of names instead of addresses. */
export function readSlice(notes: Notes): EndpointSlice | null {
  const root = rootOf(notes);
  const service = labelsOf(notes)[OWNER];
  if (typeof service !== 'string' || service === '' || textAt(notes, root, 'addressType') === 'FQDN') return null;
  return {
    namespace: notes.object.namespace,
    service,
    ports: mappingsAt(notes, root, 'ports').flatMap((port) => readPort(notes, port)),
    endpoints: mappingsAt(notes, root, 'endpoints').map((endpoint) => readEndpoint(notes, endpoint)),
  };
}

function labelsOf(notes: Notes): LocatedFields['value'] {
  return mappingAt(notes, mappingAt(notes, rootOf(notes), 'metadata'), 'labels').value;
}

function clusterAddresses(notes: Notes, spec: LocatedFields): readonly Address[] {
  const listed = itemsAt(notes, spec, 'clusterIPs');
  const given = listed.length > 0 ? listed : [fieldAt(spec, 'clusterIP')];
  return given
    .filter(({ value }) => !isAbsent(value) && value !== '' && value !== 'None')
    .flatMap((at) => readAddress(notes, at));
}

/** A balancer whose `ipMode` is Proxy sends on to node ports by itself: packets to its address are to reach it. */
function balancerAddresses(notes: Notes, spec: LocatedFields, status: LocatedFields): readonly Address[] {
  if (textAt(notes, spec, 'type') !== 'LoadBalancer') return [];
  return mappingsAt(notes, mappingAt(notes, status, 'loadBalancer'), 'ingress')
    .filter((each) => !isAbsent(each.value.ip) && textAt(notes, each, 'ipMode') !== 'Proxy')
    .flatMap((each) => readAddress(notes, fieldAt(each, 'ip')));
}

/** The API server gives one out where a balancer has to know which nodes have endpoints. */
function readHealthPort(notes: Notes, spec: LocatedFields): { readonly healthPort?: number } {
  const at = fieldAt(spec, 'healthCheckNodePort');
  const isAsked =
    textAt(notes, spec, 'type') === 'LoadBalancer' && textAt(notes, spec, 'externalTrafficPolicy') === 'Local';
  if (!isAsked || isAbsent(at.value) || at.value === 0) return {};
  if (isPortNumber(at.value)) return { healthPort: at.value };
  noteField(notes, at, 'a port number');
  return {};
}

/**
 * Whom its balancer's addresses are for. What is no range lets nobody in, and more than a node has room for let in nobody at
 * all; one of all addresses limits nobody, of the other family neither.
 */
function readClients(notes: Notes, spec: LocatedFields): { readonly balancerClients?: readonly Cidr[] } {
  if (textAt(notes, spec, 'type') !== 'LoadBalancer') return {};
  const ranges = itemsAt(notes, spec, 'loadBalancerSourceRanges');
  const isWhole = ({ value }: Located): boolean =>
    typeof value === 'string' && ['0.0.0.0/0', '::/0'].includes(value.trim());
  if (ranges.every(isWhole)) return {};
  if (ranges.length > MOST_RANGES) {
    note(notes, 'spec.loadBalancerSourceRanges', `more than ${MOST_RANGES} ranges: the balancer lets in nobody`);
    return { balancerClients: [] };
  }
  const balancerClients = ranges.flatMap((at) => {
    const parsed = typeof at.value === 'string' ? parseCidr(at.value.trim()) : null;
    if (parsed === null) noteField(notes, at, 'a block of addresses');
    return parsed === null ? [] : [parsed.cidr];
  });
  return { balancerClients };
}

function readAddress(notes: Notes, at: Located): readonly Address[] {
  const parsed = typeof at.value === 'string' ? parseAddress(at.value) : null;
  if (parsed === null) noteField(notes, at, 'an IP address');
  return parsed === null ? [] : [parsed];
}

function readServicePort(notes: Notes, spec: LocatedFields, port: LocatedFields): readonly ServicePort[] {
  const given = port.value.nodePort;
  const hasPorts = ['NodePort', 'LoadBalancer'].includes(textAt(notes, spec, 'type'));
  if (!hasPorts || isAbsent(given) || given === 0) return readPort(notes, port);
  if (isPortNumber(given)) return readPort(notes, port).map((read) => ({ ...read, nodePort: given }));
  noteField(notes, fieldAt(port, 'nodePort'), 'a port number');
  return readPort(notes, port);
}

function isPortNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value > 0 && value < 65_536;
}

/** A slice's port without a number stands for all ports, which no Service has: it is left out. */
function readPort(notes: Notes, port: LocatedFields): readonly ServicePort[] {
  const at = fieldAt(port, 'port');
  const protocol = readProtocol(notes, port);
  if (isAbsent(at.value) || protocol === null) return [];
  if (isPortNumber(at.value)) {
    return [{ name: textAt(notes, port, 'name'), protocol, port: at.value }];
  }
  noteField(notes, at, 'a port number');
  return [];
}

function readProtocol(notes: Notes, port: LocatedFields): Protocol | null {
  const name = textAt(notes, port, 'protocol');
  const protocol = name === '' ? TCP : protocolNumber(name);
  if (protocol === null) noteField(notes, fieldAt(port, 'protocol'), 'TCP, UDP or SCTP');
  return protocol;
}

/** Of several addresses all would be the same endpoint: the API says that the first one is to be used. */
function readEndpoint(notes: Notes, endpoint: LocatedFields): SliceEndpoint {
  const conditions = mappingAt(notes, endpoint, 'conditions');
  const ready = isAbsent(conditions.value.ready) || flagAt(notes, conditions, 'ready');
  return {
    addresses: itemsAt(notes, endpoint, 'addresses')
      .slice(0, 1)
      .flatMap((at) => readAddress(notes, at)),
    ready,
    serving: isAbsent(conditions.value.serving) ? ready : flagAt(notes, conditions, 'serving'),
    node: textAt(notes, endpoint, 'nodeName'),
    ...readHints(notes, endpoint),
  };
}

/** What the EndpointSlice controller makes of `spec.trafficDistribution` and of topology annotations. */
function readHints(notes: Notes, endpoint: LocatedFields): { readonly hints?: TopologyHints } {
  const hints = mappingAt(notes, endpoint, 'hints');
  const namesOf = (field: string): readonly string[] =>
    mappingsAt(notes, hints, field).flatMap((each) => textAt(notes, each, 'name') || []);
  const [nodes, zones] = [namesOf('forNodes'), namesOf('forZones')];
  return nodes.length + zones.length === 0 ? {} : { hints: { nodes, zones } };
}

/** The API's own default is filled in by its server. */
function affinitySeconds(notes: Notes, spec: LocatedFields): number {
  const config = mappingAt(notes, spec, 'sessionAffinityConfig');
  const seconds = countAt(notes, mappingAt(notes, config, 'clientIP'), 'timeoutSeconds');
  return seconds === null || seconds === 0 ? DEFAULT_AFFINITY_S : Math.min(seconds, MOST_AFFINITY_S);
}

function note(notes: Notes, path: string, message: string): void {
  const hint = 'Leave Services to kube-proxy (--services kube-proxy) where this is needed.';
  notes.diagnostics.push(complainOf(notes.object, path, { code: 'service-in-part', message, hint }));
}

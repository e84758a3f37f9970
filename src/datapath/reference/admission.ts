// What may cross a pod's interface at all, before any policy: nobody speaks in another's name.

import type { DropReason, EndpointLink } from '#datapath/port.ts';
import { type Address, formatAddress, isGroup, isHairpin, isNowhere } from '#net/address.ts';
import { readUint, sameBytes } from './bytes.ts';
import type { ParsedFrame, Transport } from './packet.ts';

/** passes: not a matter of policy · judged: by its tuple · else the reason it is dropped for. */
export type Admission =
  | { readonly kind: 'passes' }
  | { readonly kind: 'judged' }
  | { readonly kind: 'drop'; readonly reason: DropReason };

/** A pod's interface; `admitted` addresses have an endpoint record; `isHere`: the node's address, or a local pod's. */
export type Place = EndpointLink & {
  readonly admitted: readonly Address[];
  readonly isHere: (address: Address) => boolean;
};

type Frame = Exclude<ParsedFrame, { kind: 'drop' }>;
type Neighbourly = Extract<Transport, { kind: 'neighbour' | 'listener' }>;

const PASSES: Admission = { kind: 'passes' };
const JUDGED: Admission = { kind: 'judged' };
const FORGED: Admission = drop('spoofed-neighbour');
const ARP_REQUEST = 1;
const SOLICITATION = 135;
const ADVERTISEMENT = 136;
/** Listener query, router advertisement, redirect: a pod is no router. */
const ROUTERS_ONLY: ReadonlySet<number> = new Set([130, 134, 137]);
const MAX_OPTIONS = 4;
/** Ethernet pads shorter frames to this. */
const MIN_FRAME = 60;
/** NDP options: source and target link-layer address (RFC 4861), nonce (RFC 7527). */
const MAC_OPTIONS: ReadonlySet<number> = new Set([1, 2]);
const NONCE = 14;

/** The source check: ARP, NDP and MLD by what they claim, then groups, then MAC and IP source. */
export function admitFromPod(place: Place, frame: Frame): Admission {
  if (frame.kind === 'arp') return admitArp(place, frame);
  const { transport, macs } = frame;
  const ownMac = sameBytes(macs.source, place.mac);
  if (transport.kind === 'neighbour' || transport.kind === 'listener') {
    return ownMac ? admitNeighbour(place, transport) : FORGED;
  }
  const toGroup = ((macs.destination[0] ?? 0) & 1) === 1;
  if (toGroup || isGroup(transport.tuple.destination)) return drop('multicast');
  const { destination } = transport.tuple;
  if (isNowhere(destination) && !isHairpin(destination)) return drop('malformed');
  return ownMac && includes(place.addresses, transport.tuple.source) ? JUDGED : drop('spoofed-source');
}

/** What is sent to a pod must be for it. ARP, NDP and MLD come from its own gateway. */
export function admitToPod(link: EndpointLink, frame: Frame): Admission {
  if (frame.kind === 'arp') return PASSES;
  const { transport } = frame;
  if (transport.kind === 'neighbour') return isHonest(transport) ? PASSES : FORGED;
  if (transport.kind === 'listener') return isHonest(transport) && staysBehindRouters(transport) ? PASSES : FORGED;
  if (isGroup(transport.tuple.destination)) return drop('multicast');
  const { source, destination } = transport.tuple;
  if (isNowhere(source) || isGroup(source) || isNowhere(destination)) return drop('malformed');
  return includes(link.addresses, transport.tuple.destination) ? JUDGED : drop('no-endpoint');
}

function admitArp(place: Place, frame: Extract<Frame, { kind: 'arp' }>): Admission {
  // No room for more than Ethernet's own padding: nobody judges what is in it.
  if (frame.length > MIN_FRAME) return drop('malformed');
  if (!sameBytes(frame.senderMac, place.mac) || !sameBytes(frame.macs.source, place.mac)) return FORGED;
  // 0.0.0.0 asks whether an address is taken, since its own pod is about to take it (RFC 5227).
  const isProbe = isZero(frame.sender) && frame.operation === ARP_REQUEST;
  return includes(place.admitted, isProbe ? frame.target : frame.sender) ? PASSES : FORGED;
}

function admitNeighbour(place: Place, transport: Neighbourly): Admission {
  const { source, destination } = transport.tuple;
  const type = transport.tuple.policyPort >> 8;
  if (!isHonest(transport) || ROUTERS_ONLY.has(type) || !staysOnLink(place, destination)) return FORGED;
  const speaksForItself = isOwn(place, source) || (isZero(source) && type !== ADVERTISEMENT);
  if (!speaksForItself) return FORGED;
  return transport.kind === 'neighbour' ? admitClaims(place, transport) : PASSES;
}

/** Nobody asks for an address that it is about to take (RFC 4862, section 5.4): whoever else is, would give it up. */
function admitClaims(place: Place, { message, tuple }: Transport & { readonly kind: 'neighbour' }): Admission {
  const claims = message.type === ADVERTISEMENT || (message.type === SOLICITATION && isZero(tuple.source));
  if (claims && (message.target === null || !isOwn(place, message.target))) return FORGED;
  return admitOptions(place, message.options);
}

/**
 * Link-layer address options must name the pod's own MAC; beside them a nonce, and nothing that could carry more to who
 * is not to hear it.
 */
function admitOptions(place: Place, options: Uint8Array): Admission {
  for (let at = 0, count = 0; at < options.length; count++) {
    const length = (readUint(options, at + 1, 1) ?? 0) * 8;
    if (count === MAX_OPTIONS) return FORGED;
    if (length === 0 || at + length > options.length) return drop('malformed');
    const option = options[at] ?? 0;
    const namesOwn = MAC_OPTIONS.has(option) && sameBytes(options.subarray(at + 2, at + 8), place.mac);
    if (length !== 8 || (option !== NONCE && !namesOwn)) return FORGED;
    at += length;
  }
  return PASSES;
}

function isHonest(transport: Neighbourly): boolean {
  return transport.kind === 'neighbour' ? transport.message.honest : transport.honest;
}

/** A hop limit of 1 may be what routers left of a larger one; none passes on these sources (RFC 3810 §5). */
function staysBehindRouters({ tuple }: Neighbourly): boolean {
  return isZero(tuple.source) || isLinkLocal(tuple.source);
}

/** Neighbour discovery is not judged, so it must not be a way out. */
function staysOnLink(place: Place, destination: Address): boolean {
  return isGroup(destination) || isLinkLocal(destination) || place.isHere(destination);
}

/** An address of the pod: one it was given, or the link-local one that its MAC gives (RFC 4291, appendix A). */
function isOwn(place: Place, address: Address): boolean {
  return includes(place.admitted, address) || formatAddress(address) === formatAddress(linkLocalOf(place.mac));
}

function linkLocalOf(mac: Uint8Array): Address {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = mac;
  const high = ((a ^ 2) * 0x1000000 + b * 0x10000 + c * 0x100 + 0xff) >>> 0;
  return { family: 6, words: [0xfe800000, 0, high, 0xfe000000 + d * 0x10000 + e * 0x100 + f] };
}

function includes(addresses: readonly Address[], address: Address): boolean {
  const key = formatAddress(address);
  return addresses.some((own) => formatAddress(own) === key);
}

function isZero(address: Address): boolean {
  return address.words.every((word) => word === 0);
}

/** fe80::/10. */
function isLinkLocal(address: Address): boolean {
  return address.family === 6 && (address.words[0] ?? 0) >>> 22 === 0x3fa;
}

function drop(reason: DropReason): Admission {
  return { kind: 'drop', reason };
}

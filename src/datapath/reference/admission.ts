// What may cross a pod's interface at all, before any policy: nobody speaks in another's name.

import type { DropReason, EndpointLink } from '#datapath/port.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { sameBytes } from './bytes.ts';
import type { NeighbourMessage, ParsedFrame, Transport, Tuple } from './packet.ts';

/** passes: not a matter of policy · judged: by its tuple · else the reason it is dropped for. */
export type Admission =
  | { readonly kind: 'passes' }
  | { readonly kind: 'judged' }
  | { readonly kind: 'drop'; readonly reason: DropReason };

type Frame = Exclude<ParsedFrame, { kind: 'drop' }>;

const PASSES: Admission = { kind: 'passes' };
const JUDGED: Admission = { kind: 'judged' };
const ROUTER_ADVERTISEMENT = 134;
const ADVERTISEMENT = 136;
const REDIRECT = 137;
const LISTENER_QUERY = 130;

/** The source check: MAC, then ARP, NDP and MLD by what they claim, then the IP source. */
export function admitFromPod(link: EndpointLink, frame: Frame): Admission {
  if (!sameBytes(frame.sourceMac, link.mac)) return drop('spoofed-source');
  if (frame.kind === 'arp') {
    const honest = sameBytes(frame.senderMac, link.mac) && (isZero(frame.sender) || owns(link, frame.sender));
    return honest ? PASSES : drop('spoofed-neighbour');
  }
  const { transport } = frame;
  if (transport.kind === 'neighbour') return admitNeighbour(link, transport.tuple, transport.message);
  if (isListenerReport(transport)) return onLink(link, transport.tuple.source) ? PASSES : drop('spoofed-source');
  if (!owns(link, transport.tuple.source)) return drop('spoofed-source');
  return isMulticast(transport.tuple.destination) ? drop('multicast') : JUDGED;
}

/** What is sent to a pod must be for it. ARP, NDP and MLD come from its own gateway. */
export function admitToPod(link: EndpointLink, frame: Frame): Admission {
  if (frame.kind === 'arp' || frame.transport.kind === 'neighbour') return PASSES;
  const { destination } = frame.transport.tuple;
  if (frame.transport.kind === 'listener' && isMulticast(destination)) return PASSES;
  if (isMulticast(destination)) return drop('multicast');
  return owns(link, destination) ? JUDGED : drop('no-endpoint');
}

function admitNeighbour(link: EndpointLink, tuple: Tuple, message: NeighbourMessage): Admission {
  if (!onLink(link, tuple.source)) return drop('spoofed-source');
  const { type, target } = message;
  // Router advertisements and redirects are a router's; a pod is none.
  if (type === ROUTER_ADVERTISEMENT || type === REDIRECT) return drop('spoofed-neighbour');
  const claims = type === ADVERTISEMENT && target !== null && !owns(link, target) && !isLinkLocal(target);
  const foreignMac = message.claimedMacs.some((mac) => !sameBytes(mac, link.mac));
  return claims || foreignMac ? drop('spoofed-neighbour') : PASSES;
}

/** Reports and dones, not queries. */
function isListenerReport(transport: Transport): boolean {
  const { tuple } = transport;
  return transport.kind === 'listener' && tuple.policyPort >> 8 !== LISTENER_QUERY && isMulticast(tuple.destination);
}

/** Sources that neighbour discovery may have: the pod's own, link-local, or none yet. */
function onLink(link: EndpointLink, source: Address): boolean {
  return owns(link, source) || isLinkLocal(source) || isZero(source);
}

function owns(link: EndpointLink, address: Address): boolean {
  const key = formatAddress(address);
  return link.addresses.some((own) => formatAddress(own) === key);
}

function isZero(address: Address): boolean {
  return address.words.every((word) => word === 0);
}

/** fe80::/10. */
function isLinkLocal(address: Address): boolean {
  return address.family === 6 && (address.words[0] ?? 0) >>> 22 === 0x3fa;
}

/** 224.0.0.0/4 and the limited broadcast; ff00::/8. */
function isMulticast(address: Address): boolean {
  const first = address.words[0] ?? 0;
  return address.family === 6 ? first >>> 24 === 0xff : first >>> 28 === 0xe || first === 0xffffffff;
}

function drop(reason: DropReason): Admission {
  return { kind: 'drop', reason };
}

// NetworkPolicyPeer → Peer: selectors or an address block.
import { isV4Mapped } from '#net/address.ts';
import { type Cidr, cidrCovers, formatCidr, parseCidr } from '#net/cidr.ts';
import { describe, isAbsent, show } from '#policy/fields.ts';
import type { NamespaceSelector, Peer, Peers } from '#policy/model.ts';
import { EVERYTHING } from '#policy/selector.ts';
import { complain, fieldAt, type Located, nullItemAsEmpty, type Reader, readList, readMapping } from './reader.ts';
import { readSelector } from './selectors.ts';

/** Absent, null and empty lists mean any peer. Null where any part is not understood. */
export function readPeers(reader: Reader, at: Located): Peers | null {
  const items = readList(reader, at);
  if (items === null) return null;
  if (items === 'absent' || items.length === 0) return { kind: 'any' };
  const peers = items.map((item) => readPeer(reader, item)).filter((peer) => peer !== null);
  return peers.length === items.length ? { kind: 'these', peers } : null;
}

function readPeer(reader: Reader, at: Located): Peer | null {
  const mapping = readMapping(reader, nullItemAsEmpty(reader, at), ['podSelector', 'namespaceSelector', 'ipBlock']);
  if (mapping === null) return null;
  const block = fieldAt(mapping, 'ipBlock');
  const pods = fieldAt(mapping, 'podSelector');
  const namespaces = fieldAt(mapping, 'namespaceSelector');
  const selects = !isAbsent(pods.value) || !isAbsent(namespaces.value);
  if (!isAbsent(block.value)) {
    const cidr = readBlock(reader, block);
    return selects ? complainMixed(reader, at) : cidr;
  }
  if (selects) return readPodPeer(reader, pods, namespaces);
  return complain(reader, at.path, {
    code: 'np-peer-empty',
    message: 'the peer has neither podSelector nor namespaceSelector nor ipBlock',
    hint: 'For every pod of the cluster write namespaceSelector: {}; for every peer remove the whole list.',
  });
}

function complainMixed(reader: Reader, at: Located): null {
  return complain(reader, at.path, {
    code: 'np-peer-mixed',
    message: 'the peer has ipBlock and selectors at once',
    hint: 'Make two list items of it: one with ipBlock, one with the selectors.',
  });
}

function readPodPeer(reader: Reader, pods: Located, namespaces: Located): Peer | null {
  const podSelector = isAbsent(pods.value) ? EVERYTHING : readSelector(reader, pods);
  const own: NamespaceSelector = { kind: 'named', name: reader.object.namespace };
  const chosen = isAbsent(namespaces.value) ? own : readNamespaces(reader, namespaces);
  return podSelector === null || chosen === null ? null : { kind: 'pods', namespaces: chosen, pods: podSelector };
}

function readNamespaces(reader: Reader, at: Located): NamespaceSelector | null {
  const selector = readSelector(reader, at);
  return selector === null ? null : { kind: 'labelled', selector };
}

function readBlock(reader: Reader, at: Located): Peer | null {
  const mapping = readMapping(reader, at, ['cidr', 'except']);
  if (mapping === null) return null;
  const cidr = readCidr(reader, fieldAt(mapping, 'cidr'));
  const items = readList(reader, fieldAt(mapping, 'except'));
  if (items === null) return null;
  const holes = items === 'absent' ? [] : items.map((item) => readException(reader, item, cidr));
  const except = holes.filter((hole) => hole !== null);
  return cidr === null || except.length !== holes.length ? null : { kind: 'cidr', cidr, except };
}

function readException(reader: Reader, at: Located, outer: Cidr | null): Cidr | null {
  const hole = readCidr(reader, at);
  if (hole === null || outer === null) return null;
  if (cidrCovers(outer, hole) && hole.length > outer.length) return hole;
  return complain(reader, at.path, {
    code: 'np-except',
    message: `the exception ${formatCidr(hole)} is not a smaller block inside ${formatCidr(outer)}`,
    hint: 'Write a block that lies inside cidr and has a longer prefix, or remove it.',
  });
}

function readCidr(reader: Reader, { value, path }: Located): Cidr | null {
  const text = typeof value === 'string' ? withoutLeadingZeros(value) : null;
  const parsed = text === null ? null : parseCidr(text);
  if (parsed === null) {
    const bare = typeof value === 'string' && parseCidr(`${value}/32`) !== null;
    return complain(reader, path, {
      code: 'np-cidr',
      message: `found ${describe(value)} where a CIDR is expected`,
      hint: bare
        ? `Write ${String(value)}/${String(value).includes(':') ? 128 : 32}.`
        : 'Write address/length, such as 10.0.0.0/8.',
    });
  }
  if (parsed.hostBits || text !== value) {
    complain(reader, path, {
      code: 'np-cidr-host-bits',
      message: `${show(value)} is read as ${formatCidr(parsed.cidr)}`,
      hint: `Write ${formatCidr(parsed.cidr)}.`,
    });
  }
  if (isV4Mapped(parsed.cidr.address)) {
    complain(reader, path, {
      code: 'np-cidr-mapped',
      message: `${show(value)} is a block of IPv4-mapped IPv6 addresses, which no packet has`,
      hint: 'Write the IPv4 block.',
    });
  }
  return parsed.cidr;
}

/** Kubernetes reads 010.0.0.0/8 as decimal (its parser is the old, sloppy one). */
function withoutLeadingZeros(text: string): string {
  return text.includes(':') ? text : text.replaceAll(/(^|\.)0+(?=\d)/g, '$1');
}

// What rtnetlink is asked to make and tells of: links, addresses, neighbours, routes. Pure: values in, messages out, and
// back. Layouts and numbers are those of <linux/rtnetlink.h>, <linux/if_link.h>, <linux/if_addr.h> and <linux/neighbour.h>.
import type { Address } from '#net/address.ts';
import type { Cidr } from '#net/cidr.ts';
import { decodeAttributes, encodeAttribute, type Message, NetlinkError, type Told, textOf } from './netlink.ts';

const RTM = {
  ...{ NEWLINK: 16, DELLINK: 17, GETLINK: 18, NEWADDR: 20, GETADDR: 22 },
  ...{ NEWROUTE: 24, NEWNEIGH: 28, NEWQDISC: 36, GETQDISC: 38, NEWTFILTER: 44, NEWNSID: 88, GETNSID: 90 },
} as const;
const NLM_F_REQUEST = 1;
const NLM_F_ACK = 4;
const NLM_F_ECHO = 8;
const NLM_F_DUMP = 0x300;
const CHANGE = NLM_F_REQUEST | NLM_F_ACK;
const CREATE = CHANGE | 0x400 | 0x200; // NLM_F_CREATE | NLM_F_EXCL
const REPLACE = CHANGE | 0x400 | 0x100; // NLM_F_CREATE | NLM_F_REPLACE

const IFLA = {
  ADDRESS: 1,
  IFNAME: 3,
  MTU: 4,
  LINK: 5,
  QDISC: 6,
  MASTER: 10,
  LINKINFO: 18,
  NET_NS_FD: 28,
  EXT_MASK: 29,
  LINK_NETNSID: 37,
} as const;
/** Leaves out counters, which are most of what the kernel tells of a link. */
const RTEXT_FILTER_SKIP_STATS = 8;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const VETH_INFO_PEER = 1;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const RTA = { DST: 1, OIF: 4, GATEWAY: 5, PREFSRC: 7 } as const;
const NDA_DST = 1;
const NDA_LLADDR = 2;
const TCA_KIND = 1;
const TCA_OPTIONS = 2;
const TCA_BPF_FD = 6;
const TCA_BPF_NAME = 7;
const TCA_BPF_FLAGS = 8;
const TCA_BPF_FLAG_ACT_DIRECT = 1;
const NETNSA_NSID = 1;
const NETNSA_FD = 3;
/** Size of struct rtgenmsg, with what fills it up to the first attribute. */
const GENERAL = 4;

const IFF_UP = 1;
const IFA_F_NODAD = 2;
const ARPHRD_ETHER = 1;
const NUD_PERMANENT = 0x80;
const RTNH_F_ONLINK = 4;
const RT_TABLE_MAIN = 254;
const RTPROT_BOOT = 3;
const RT_SCOPE_LINK = 253;
const RTN_UNICAST = 1;
const TC_H_INGRESS = 0xffff_fff1;
const CLSACT = 0xffff_0000;
/** TC_H_CLSACT and the minor numbers of its two sides. */
export const FILTER_PARENT = { ingress: 0xffff_fff2, egress: 0xffff_fff3 } as const;
/** ETH_P_ALL, as it stands in a packet. */
const EVERY_PROTOCOL = 0x0300;
/** Sizes of struct ifinfomsg, ifaddrmsg and tcmsg. */
const IFINFO = 16;
const IFADDR = 8;
const TC = 20;

type Mac = Uint8Array;

/** Two ends of a new veth, both down. The peer is made in the namespace that an open file stands for. */
export type Veth = {
  readonly name: string;
  readonly mac: Mac;
  /** Of both ends, in bytes; null: the kernel's. */
  readonly mtu: number | null;
  readonly peer: { readonly name: string; readonly mac: Mac; readonly netns: number };
};

export function makeVeth({ name, mac, mtu, peer }: Veth): Message {
  const end = (each: { readonly name: string; readonly mac: Mac }): Buffer =>
    Buffer.concat([
      ifinfo(0),
      encodeAttribute(IFLA.IFNAME, zeroEnded(each.name)),
      encodeAttribute(IFLA.ADDRESS, each.mac),
      ...(mtu === null ? [] : [encodeAttribute(IFLA.MTU, word(mtu))]),
    ]);
  const other = encodeAttribute(VETH_INFO_PEER, end(peer), encodeAttribute(IFLA.NET_NS_FD, word(peer.netns)));
  const info = [encodeAttribute(IFLA_INFO_KIND, zeroEnded('veth')), encodeAttribute(IFLA_INFO_DATA, other)];
  const body = Buffer.concat([end({ name, mac }), encodeAttribute(IFLA.LINKINFO, ...info)]);
  return { kind: RTM.NEWLINK, flags: CREATE, body };
}

export function raiseLink(index: number): Message {
  return { kind: RTM.NEWLINK, flags: CHANGE, body: ifinfo(index, IFF_UP) };
}

export function removeLink(index: number): Message {
  return { kind: RTM.DELLINK, flags: CHANGE, body: ifinfo(index) };
}

/** The one address, without duplicate address detection. */
export function addAddress(index: number, address: Address): Message {
  const header = Buffer.from([familyOf(address), bitsOf(address), IFA_F_NODAD, 0]);
  const bytes = addressBytes(address);
  const body = Buffer.concat([
    header,
    word(index),
    encodeAttribute(IFA_LOCAL, bytes),
    encodeAttribute(IFA_ADDRESS, bytes),
  ]);
  return { kind: RTM.NEWADDR, flags: CREATE, body };
}

/** Who has an address on a link, for good. */
export function setNeighbour(index: number, address: Address, mac: Mac): Message {
  const header = Buffer.alloc(12);
  header.writeUInt8(familyOf(address), 0);
  header.writeInt32LE(index, 4);
  header.writeUInt16LE(NUD_PERMANENT, 8);
  const attributes = [encodeAttribute(NDA_DST, addressBytes(address)), encodeAttribute(NDA_LLADDR, mac)];
  return { kind: RTM.NEWNEIGH, flags: REPLACE, body: Buffer.concat([header, ...attributes]) };
}

/** `gateway` need not be in a network of the link; null: the destination is on the link. `source`: what this node then speaks from. */
export type Route = {
  readonly index: number;
  readonly destination: Cidr;
  readonly gateway: Address | null;
  readonly source: Address | null;
};

export function setRoute({ index, destination, gateway, source }: Route): Message {
  const { address, length } = destination;
  const scope = gateway === null && address.family === 4 ? RT_SCOPE_LINK : 0;
  const header = Buffer.from([familyOf(address), length, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, scope, RTN_UNICAST]);
  const optional = (kind: number, value: Address | null): readonly Buffer[] =>
    value === null ? [] : [encodeAttribute(kind, addressBytes(value))];
  const attributes = [
    ...optional(RTA.DST, length === 0 ? null : address),
    ...optional(RTA.GATEWAY, gateway),
    ...optional(RTA.PREFSRC, source),
    encodeAttribute(RTA.OIF, word(index)),
  ];
  const body = Buffer.concat([header, word(gateway === null ? 0 : RTNH_F_ONLINK), ...attributes]);
  return { kind: RTM.NEWROUTE, flags: REPLACE, body };
}

/** Asks for one link, by its index or its name. */
export function askLink(link: number | string): Message {
  const name = typeof link === 'string' ? [encodeAttribute(IFLA.IFNAME, zeroEnded(link))] : [];
  const brief = encodeAttribute(IFLA.EXT_MASK, word(RTEXT_FILTER_SKIP_STATS));
  const body = Buffer.concat([ifinfo(typeof link === 'string' ? 0 : link), brief, ...name]);
  return { kind: RTM.GETLINK, flags: CHANGE, body };
}

/** Asks for what is in the place of an interface's ingress queue; the kernel refuses where nothing is. */
export function askIngressQueue(index: number): Message {
  const body = Buffer.alloc(TC);
  body.writeInt32LE(index, 4);
  body.writeUInt32LE(TC_H_INGRESS, 12);
  // Without an echo the kernel tells those alone who listen to changes.
  return { kind: RTM.GETQDISC, flags: CHANGE | NLM_F_ECHO, body };
}

/** A clsact queue, where there is none and no ingress queue either. */
export function makeClsact(index: number): Message {
  const body = tc({ index, handle: CLSACT, parent: TC_H_INGRESS, info: 0 });
  return { kind: RTM.NEWQDISC, flags: CREATE, body: Buffer.concat([body, kindOf('clsact')]) };
}

/** A program, by an open file, in direct-action mode; what stands under this priority and handle is not touched, and refuses it. */
export type NewFilter = {
  readonly index: number;
  readonly place: keyof typeof FILTER_PARENT;
  readonly priority: number;
  readonly handle: number;
  readonly program: number;
};

export function makeFilter({ index, place, priority, handle, program }: NewFilter): Message {
  const body = tc({ index, handle, parent: FILTER_PARENT[place], info: ((priority << 16) | EVERY_PROTOCOL) >>> 0 });
  const options = encodeAttribute(
    TCA_OPTIONS,
    encodeAttribute(TCA_BPF_FD, word(program)),
    encodeAttribute(TCA_BPF_NAME, zeroEnded('moat')),
    encodeAttribute(TCA_BPF_FLAGS, word(TCA_BPF_FLAG_ACT_DIRECT)),
  );
  return { kind: RTM.NEWTFILTER, flags: CREATE, body: Buffer.concat([body, kindOf('bpf'), options]) };
}

function tc(header: { index: number; handle: number; parent: number; info: number }): Buffer {
  const body = Buffer.alloc(TC);
  body.writeInt32LE(header.index, 4);
  body.writeUInt32LE(header.handle, 8);
  body.writeUInt32LE(header.parent, 12);
  body.writeUInt32LE(header.info, 16);
  return body;
}

function kindOf(name: string): Buffer {
  return encodeAttribute(TCA_KIND, zeroEnded(name));
}

/** Each asks for all there are. */
export const ASK_ALL: Readonly<Record<'links' | 'addresses' | 'queues', Message>> = {
  links: { kind: RTM.GETLINK, flags: NLM_F_REQUEST | NLM_F_DUMP, body: Buffer.alloc(IFINFO) },
  addresses: { kind: RTM.GETADDR, flags: NLM_F_REQUEST | NLM_F_DUMP, body: Buffer.alloc(IFADDR) },
  queues: { kind: RTM.GETQDISC, flags: NLM_F_REQUEST | NLM_F_DUMP, body: Buffer.alloc(TC) },
};

/** A link as the kernel tells of it. */
export type LinkRecord = {
  readonly index: number;
  readonly name: string;
  readonly mac: Mac;
  readonly mtu: number;
  /** `veth` and the like; '' for hardware. */
  readonly kind: string;
  /** Index of the bridge, the bond or the like that it belongs to; 0 for none. */
  readonly master: number;
  /** Of a link that has another end: that one's index, in the namespace of this number (null: in the same). */
  readonly other: { readonly index: number; readonly netns: number | null } | null;
  readonly ethernet: boolean;
  /** Kind of the queue for what goes out; `noop` or `noqueue` for none. */
  readonly queue: string;
  /** Somebody has switched it on. */
  readonly up: boolean;
};

/** Null for a message about something else. */
export function readLinkRecord({ kind, body }: Told): LinkRecord | null {
  if (kind !== RTM.NEWLINK) return null;
  const attributes = decodeAttributes(past(body, IFINFO));
  const info = decodeAttributes(attributes.get(IFLA.LINKINFO) ?? Buffer.alloc(0));
  return {
    index: body.readInt32LE(4),
    name: textOf(attributes.get(IFLA.IFNAME)),
    mac: Uint8Array.from(attributes.get(IFLA.ADDRESS) ?? []),
    mtu: readWord(attributes.get(IFLA.MTU)) ?? 0,
    kind: textOf(info.get(IFLA_INFO_KIND)),
    master: readWord(attributes.get(IFLA.MASTER)) ?? 0,
    other: otherEnd(attributes),
    ethernet: body.readUInt16LE(2) === ARPHRD_ETHER,
    queue: textOf(attributes.get(IFLA.QDISC)),
    up: (body.readUInt32LE(8) & IFF_UP) !== 0,
  };
}

function otherEnd(attributes: ReadonlyMap<number, Buffer>): LinkRecord['other'] {
  const index = readWord(attributes.get(IFLA.LINK)) ?? 0;
  return index === 0 ? null : { index, netns: readWord(attributes.get(IFLA.LINK_NETNSID)) };
}

/** Asks which number the namespace has here that an open file stands for. */
export function askNetnsNumber(netns: number): Message {
  const body = Buffer.concat([Buffer.alloc(GENERAL), encodeAttribute(NETNSA_FD, word(netns))]);
  return { kind: RTM.GETNSID, flags: CHANGE, body };
}

/** The number of a namespace; null for a message about something else. Negative: it has none yet. */
export function readNetnsNumber({ kind, body }: Told): number | null {
  if (kind !== RTM.NEWNSID) return null;
  const bytes = decodeAttributes(past(body, GENERAL)).get(NETNSA_NSID);
  return bytes === undefined || bytes.length < 4 ? null : bytes.readInt32LE(0);
}

/** An address, the length of its subnet's prefix, and the interface that has it. */
export type AddressRecord = { readonly index: number; readonly address: Address; readonly length: number };

/** Null for a message about something else. */
export function readAddressRecord({ kind, body }: Told): AddressRecord | null {
  if (kind !== RTM.NEWADDR) return null;
  const attributes = decodeAttributes(past(body, IFADDR));
  const bytes = attributes.get(IFA_LOCAL) ?? attributes.get(IFA_ADDRESS) ?? Buffer.alloc(0);
  const family = body.readUInt8(0) === 2 ? 4 : 6;
  if (bytes.length !== (family === 4 ? 4 : 16)) return null;
  return { index: body.readUInt32LE(4), address: addressOf(bytes), length: body.readUInt8(1) };
}

/** A queue's kind and the interface that has it. Null for a message about something else. */
export function readQueueRecord({ kind, body }: Told): { readonly index: number; readonly kind: string } | null {
  if (kind !== RTM.NEWQDISC) return null;
  return { kind: textOf(decodeAttributes(past(body, TC)).get(TCA_KIND)), index: body.readInt32LE(4) };
}

/** The address that 4 or 16 bytes are. Throws NetlinkError where they are others. */
export function addressOf(bytes: Buffer): Address {
  if (bytes.length !== 4 && bytes.length !== 16) throw new NetlinkError(`an address of ${bytes.length} bytes`);
  const words = Array.from({ length: bytes.length / 4 }, (_, index) => bytes.readUInt32BE(index * 4));
  return { family: bytes.length === 4 ? 4 : 6, words };
}

export function past(body: Buffer, size: number): Buffer {
  if (body.length < size) throw new NetlinkError(`${body.length} bytes, and ${size} are the least`);
  return body.subarray(size);
}

export function ifinfo(index: number, up = 0): Buffer {
  const header = Buffer.alloc(IFINFO);
  header.writeInt32LE(index, 4);
  header.writeUInt32LE(up, 8);
  header.writeUInt32LE(up, 12);
  return header;
}

export function familyOf({ family }: Address): number {
  return family === 4 ? 2 : 10;
}

function bitsOf({ words }: Address): number {
  return words.length * 32;
}

export function addressBytes({ words }: Address): Buffer {
  const bytes = Buffer.alloc(words.length * 4);
  for (const [index, each] of words.entries()) bytes.writeUInt32BE(each, index * 4);
  return bytes;
}

/** Null where there is none, or less than one. */
export function readWord(bytes: Buffer | undefined): number | null {
  return bytes === undefined || bytes.length < 4 ? null : bytes.readUInt32LE(0);
}

export function word(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

export function zeroEnded(text: string): Buffer {
  return Buffer.from(`${text}\0`);
}

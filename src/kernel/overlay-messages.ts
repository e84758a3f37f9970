// Messages about the network between nodes: a VXLAN link and whom it reaches, routes and rules that carry a protocol number
// of their own. Pure. Layouts and numbers are those of <linux/if_link.h>, <linux/neighbour.h>, <linux/rtnetlink.h> and
// <linux/fib_rules.h>.
import type { Address } from '#net/address.ts';
import type { Cidr } from '#net/cidr.ts';
import { decodeAttributes, encodeAttribute, type Message, type Told, textOf } from './netlink.ts';
import { addressBytes, addressOf, familyOf, ifinfo, past, readWord, word, zeroEnded } from './route-messages.ts';

const RTM = {
  ...{ NEWLINK: 16, NEWROUTE: 24, DELROUTE: 25, GETROUTE: 26 },
  ...{ NEWNEIGH: 28, DELNEIGH: 29, GETNEIGH: 30, NEWRULE: 32, DELRULE: 33, GETRULE: 34 },
} as const;
const NLM_F_REQUEST = 1;
const CHANGE = 5; // NLM_F_REQUEST | NLM_F_ACK
const CREATE = CHANGE | 0x400 | 0x200; // NLM_F_CREATE | NLM_F_EXCL
const REPLACE = CHANGE | 0x400 | 0x100; // NLM_F_CREATE | NLM_F_REPLACE
const DUMP = NLM_F_REQUEST | 0x300;

const IFLA = { ADDRESS: 1, IFNAME: 3, MTU: 4, LINKINFO: 18 } as const;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const VXLAN = { ID: 1, LOCAL: 4, LEARNING: 7, PORT: 15, LOCAL6: 17 } as const;
const IFF_UP = 1;
const NDA_DST = 1;
const NDA_LLADDR = 2;
const NTF_SELF = 2;
const AF_BRIDGE = 7;
const NUD_PERMANENT = 0x80;
const RTA = { DST: 1, OIF: 4, GATEWAY: 5, PRIORITY: 6, PREFSRC: 7, TABLE: 15 } as const;
const RTNH_F_ONLINK = 4;
const RT_TABLE_COMPAT = 252;
const RTN_UNICAST = 1;
const FRA = { SRC: 2, PRIORITY: 6, TABLE: 15, PROTOCOL: 21 } as const;
const FR_ACT_TO_TBL = 1;
/** Sizes of struct ifinfomsg, ndmsg, rtmsg and fib_rule_hdr. */
const IFINFO = 16;
const NEIGHBOUR = 12;
const ROUTE = 12;
const RULE = 12;

/** A VXLAN link that learns nothing by itself. `port` of UDP. */
export type VxlanLink = {
  readonly name: string;
  readonly id: number;
  readonly port: number;
  readonly local: Address;
  readonly mac: Uint8Array;
  readonly mtu: number;
};

export function makeVxlan({ name, id, port, local, mac, mtu }: VxlanLink): Message {
  const data = encodeAttribute(
    IFLA_INFO_DATA,
    encodeAttribute(VXLAN.ID, word(id)),
    encodeAttribute(local.family === 4 ? VXLAN.LOCAL : VXLAN.LOCAL6, addressBytes(local)),
    encodeAttribute(VXLAN.LEARNING, Buffer.of(0)),
    encodeAttribute(VXLAN.PORT, Buffer.of(port >> 8, port & 0xff)),
  );
  const body = Buffer.concat([
    ifinfo(0),
    encodeAttribute(IFLA.IFNAME, zeroEnded(name)),
    encodeAttribute(IFLA.ADDRESS, mac),
    encodeAttribute(IFLA.MTU, word(mtu)),
    encodeAttribute(IFLA.LINKINFO, encodeAttribute(IFLA_INFO_KIND, zeroEnded('vxlan')), data),
  ]);
  return { kind: RTM.NEWLINK, flags: CREATE, body };
}

/** Sets what a link may carry, and switches it on. */
export function raiseWithMtu(index: number, mtu: number): Message {
  const body = Buffer.concat([ifinfo(index, IFF_UP), encodeAttribute(IFLA.MTU, word(mtu))]);
  return { kind: RTM.NEWLINK, flags: CHANGE, body };
}

/** Null for a message about something else, or a VXLAN link without a `local` address. */
export function readVxlan({ kind, body }: Told): VxlanLink | null {
  if (kind !== RTM.NEWLINK) return null;
  const attributes = decodeAttributes(past(body, IFINFO));
  const info = decodeAttributes(attributes.get(IFLA.LINKINFO) ?? Buffer.alloc(0));
  if (textOf(info.get(IFLA_INFO_KIND)) !== 'vxlan') return null;
  const data = decodeAttributes(info.get(IFLA_INFO_DATA) ?? Buffer.alloc(0));
  const local = data.get(VXLAN.LOCAL) ?? data.get(VXLAN.LOCAL6);
  if (local === undefined) return null;
  return {
    name: textOf(attributes.get(IFLA.IFNAME)),
    id: readWord(data.get(VXLAN.ID)) ?? 0,
    port: readPort(data.get(VXLAN.PORT)),
    local: addressOf(local),
    mac: Uint8Array.from(attributes.get(IFLA.ADDRESS) ?? []),
    mtu: readWord(attributes.get(IFLA.MTU)) ?? 0,
  };
}

function readPort(bytes: Buffer | undefined): number {
  return bytes === undefined || bytes.length < 2 ? 0 : bytes.readUInt16BE(0);
}

/**
 * On a link for good: `forwarding`, the machine (`address`) that frames to a MAC go to; `neighbour`, the MAC that has an address.
 */
export type LinkEntry = {
  readonly kind: 'forwarding' | 'neighbour';
  readonly index: number;
  readonly mac: Uint8Array;
  readonly address: Address;
};

export function setEntry(entry: LinkEntry): Message {
  return { kind: RTM.NEWNEIGH, flags: REPLACE, body: entryBody(entry) };
}

export function removeEntry(entry: LinkEntry): Message {
  return { kind: RTM.DELNEIGH, flags: CHANGE, body: entryBody(entry) };
}

function entryBody({ kind, index, mac, address }: LinkEntry): Buffer {
  const header = Buffer.alloc(NEIGHBOUR);
  header.writeUInt8(kind === 'forwarding' ? AF_BRIDGE : familyOf(address), 0);
  header.writeInt32LE(index, 4);
  header.writeUInt16LE(NUD_PERMANENT, 8);
  header.writeUInt8(kind === 'forwarding' ? NTF_SELF : 0, 10);
  const attributes = [encodeAttribute(NDA_DST, addressBytes(address)), encodeAttribute(NDA_LLADDR, mac)];
  return Buffer.concat([header, ...attributes]);
}

/** Null for a message about something else, and for what is there for a time only. */
export function readEntry({ kind, body }: Told): LinkEntry | null {
  if (kind !== RTM.NEWNEIGH) return null;
  const attributes = decodeAttributes(past(body, NEIGHBOUR));
  const [address, mac] = [attributes.get(NDA_DST), attributes.get(NDA_LLADDR)];
  if (address === undefined || mac === undefined || (body.readUInt16LE(8) & NUD_PERMANENT) === 0) return null;
  return {
    kind: body.readUInt8(0) === AF_BRIDGE ? 'forwarding' : 'neighbour',
    index: body.readInt32LE(4),
    mac: Uint8Array.from(mac),
    address: addressOf(address),
  };
}

/** A route of ours. `gateway` need not be in a network of the link; `source`: what this node then speaks from; null = as it likes. */
export type OwnRoute = {
  readonly table: number;
  readonly destination: Cidr;
  readonly index: number;
  readonly gateway: Address;
  readonly source: Address | null;
};

/** What tells own routes and rules from everybody's: their protocol number, and a priority that they share with nobody. */
export type Mark = { readonly protocol: number; readonly priority: number };

export function setOwnRoute(route: OwnRoute, mark: Mark): Message {
  return { kind: RTM.NEWROUTE, flags: REPLACE, body: routeBody(route, mark) };
}

export function removeOwnRoute(route: OwnRoute, mark: Mark): Message {
  return { kind: RTM.DELROUTE, flags: CHANGE, body: routeBody(route, mark) };
}

function routeBody({ table, destination, index, gateway, source }: OwnRoute, { protocol, priority }: Mark): Buffer {
  const { address, length } = destination;
  const small = table < 256 ? table : RT_TABLE_COMPAT;
  return Buffer.concat([
    Buffer.from([familyOf(address), length, 0, 0, small, protocol, 0, RTN_UNICAST]),
    word(RTNH_F_ONLINK),
    encodeAttribute(RTA.DST, addressBytes(address)),
    encodeAttribute(RTA.GATEWAY, addressBytes(gateway)),
    ...(source === null ? [] : [encodeAttribute(RTA.PREFSRC, addressBytes(source))]),
    encodeAttribute(RTA.OIF, word(index)),
    encodeAttribute(RTA.PRIORITY, word(priority)),
    encodeAttribute(RTA.TABLE, word(table)),
  ]);
}

/** Null for a message about something else, and for routes that are not marked as our own. */
export function readOwnRoute({ kind, body }: Told, { protocol, priority }: Mark): OwnRoute | null {
  if (kind !== RTM.NEWROUTE && kind !== RTM.DELROUTE) return null;
  if (past(body, ROUTE).length === 0 || body.readUInt8(5) !== protocol) return null;
  const attributes = decodeAttributes(body.subarray(ROUTE));
  const [destination, gateway] = [attributes.get(RTA.DST), attributes.get(RTA.GATEWAY)];
  const index = readWord(attributes.get(RTA.OIF));
  if (readWord(attributes.get(RTA.PRIORITY)) !== priority) return null;
  if (destination === undefined || gateway === undefined || index === null) return null;
  const source = attributes.get(RTA.PREFSRC);
  return {
    table: readWord(attributes.get(RTA.TABLE)) ?? body.readUInt8(4),
    destination: { address: addressOf(destination), length: body.readUInt8(1) },
    index,
    gateway: addressOf(gateway),
    source: source === undefined ? null : addressOf(source),
  };
}

/** What comes from a block looks up a table first. */
export type OwnRule = { readonly from: Cidr; readonly table: number };

export function addRule(rule: OwnRule, mark: Mark): Message {
  return { kind: RTM.NEWRULE, flags: CREATE, body: ruleBody(rule, mark) };
}

export function removeRule(rule: OwnRule, mark: Mark): Message {
  return { kind: RTM.DELRULE, flags: CHANGE, body: ruleBody(rule, mark) };
}

function ruleBody({ from, table }: OwnRule, { protocol, priority }: Mark): Buffer {
  const { address, length } = from;
  return Buffer.concat([
    Buffer.from([familyOf(address), 0, length, 0, table < 256 ? table : RT_TABLE_COMPAT, 0, 0, FR_ACT_TO_TBL]),
    word(0),
    encodeAttribute(FRA.SRC, addressBytes(address)),
    encodeAttribute(FRA.PRIORITY, word(priority)),
    encodeAttribute(FRA.TABLE, word(table)),
    encodeAttribute(FRA.PROTOCOL, Buffer.of(protocol)),
  ]);
}

/** Null for a message about something else, and for rules that are not marked as our own. */
export function readRule({ kind, body }: Told, { protocol, priority }: Mark): OwnRule | null {
  if (kind !== RTM.NEWRULE && kind !== RTM.DELRULE) return null;
  const attributes = decodeAttributes(past(body, RULE));
  const [from, table] = [attributes.get(FRA.SRC), readWord(attributes.get(FRA.TABLE))];
  if (attributes.get(FRA.PROTOCOL)?.at(0) !== protocol || from === undefined || table === null) return null;
  if (readWord(attributes.get(FRA.PRIORITY)) !== priority) return null;
  return { from: { address: addressOf(from), length: body.readUInt8(2) }, table };
}

/** Each asks for all there are of a family; `forwarding`: of all links. */
export function askRoutes(family: 4 | 6): Message {
  return { kind: RTM.GETROUTE, flags: DUMP, body: emptyHeader(ROUTE, family) };
}

export function askRules(family: 4 | 6): Message {
  return { kind: RTM.GETRULE, flags: DUMP, body: emptyHeader(RULE, family) };
}

export function askEntries(which: 4 | 6 | 'forwarding'): Message {
  const body = emptyHeader(NEIGHBOUR, which === 'forwarding' ? 4 : which);
  if (which === 'forwarding') body.writeUInt8(AF_BRIDGE, 0);
  return { kind: RTM.GETNEIGH, flags: DUMP, body };
}

function emptyHeader(size: number, family: 4 | 6): Buffer {
  const body = Buffer.alloc(size);
  body.writeUInt8(family === 4 ? 2 : 10, 0);
  return body;
}

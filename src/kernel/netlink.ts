// Messages of rtnetlink: how they are laid out, and those about filters. Pure: bytes in, values out. Layouts are those of
// <linux/netlink.h> and <linux/rtnetlink.h>.

const RTM_NEWTFILTER = 44;
const RTM_GETTFILTER = 46;
const NLM_F_REQUEST_DUMP = 0x301;
const NLM_F_DUMP_INTR = 0x10;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
/** struct nlmsghdr, struct tcmsg, struct rtattr. */
const HEADER = 16;
const TCMSG = 20;
const ATTRIBUTE = 4;
const TCA_KIND = 1;
const TCA_OPTIONS = 2;
const TCA_BPF_ID = 11;

/** A message: RTM_..., its flags (NLM_F_...), and what follows the header. `sequence`: what its answers have, too; 0 where absent. */
export type Message = {
  readonly kind: number;
  readonly flags: number;
  readonly body: Buffer;
  readonly sequence?: number;
};

/** One filter, as the kernel lists it: the order of the list is the order in which packets meet them. */
export type Filter = {
  readonly priority: number;
  readonly handle: number;
  readonly kind: string;
  /** The program's id; 0 where the filter is none of BPF. */
  readonly program: number;
};

/** One datagram of a dump. `errno` is the kernel's refusal, 0 = none; `last` = nothing comes after it. */
export type FilterDump = { readonly filters: readonly Filter[]; readonly last: boolean; readonly errno: number };

/** `changed`: what was listed became another meanwhile. Of a list, any part may say so, and the others are silent about it. */
type Part = { readonly changed: boolean };

/** What the kernel tells in answer to a message. */
export type Told = Pick<Message, 'kind' | 'body'> & Part;

/** A message, of this sequence, is through. `errno`: the kernel's refusal, 0 = none. */
export type End = Part & { readonly errno: number; readonly sequence: number };

/** Bytes that are not what they should be: says where, and what was found. */
export class NetlinkError extends Error {
  constructor(message: string) {
    super(`netlink: ${message}`);
    this.name = 'NetlinkError';
  }
}

/** A message with its header, padded. */
export function encodeMessage({ kind, flags, body, sequence = 0 }: Message): Buffer {
  const bytes = Buffer.alloc(aligned(HEADER + body.length));
  bytes.writeUInt32LE(HEADER + body.length, 0);
  bytes.writeUInt16LE(kind, 4);
  bytes.writeUInt16LE(flags, 6);
  bytes.writeUInt32LE(sequence, 8);
  body.copy(bytes, HEADER);
  return bytes;
}

/** An attribute, padded. */
export function encodeAttribute(kind: number, ...parts: readonly Uint8Array[]): Buffer {
  const size = parts.reduce((sum, part) => sum + part.length, ATTRIBUTE);
  const bytes = Buffer.alloc(aligned(size));
  bytes.writeUInt16LE(size, 0);
  bytes.writeUInt16LE(kind, 2);
  let at = ATTRIBUTE;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** Reads one datagram of answers, in order. Throws NetlinkError where a length reaches beyond what was received. */
export function decodeAnswer(datagram: Buffer): readonly (Told | End)[] {
  return [...messagesOf(datagram)].map(({ kind, flags, body, sequence }) => {
    const changed = (flags & NLM_F_DUMP_INTR) !== 0;
    if (kind === NLMSG_ERROR) return { errno: -wordOf(body, 'an error') | 0, changed, sequence };
    if (kind === NLMSG_DONE) return { errno: body.length < 4 ? 0 : -body.readInt32LE(0) | 0, changed, sequence };
    return { kind, body, changed };
  });
}

function* messagesOf(datagram: Buffer): Generator<Required<Message>> {
  for (let at = 0; at < datagram.length; ) {
    const rest = datagram.subarray(at);
    const size = rest.length < HEADER ? 0 : rest.readUInt32LE(0);
    if (size < HEADER || size > rest.length) {
      throw new NetlinkError(`a message of ${size} bytes at byte ${at}, and ${rest.length} are left`);
    }
    yield {
      ...{ kind: rest.readUInt16LE(4), flags: rest.readUInt16LE(6), sequence: rest.readUInt32LE(8) },
      body: rest.subarray(HEADER, size),
    };
    at += aligned(size);
  }
}

/** Asks for every filter below a parent (TC_H_...) of an interface. */
export function encodeFilterDump(interfaceIndex: number, parent: number): Buffer {
  const body = Buffer.alloc(TCMSG);
  body.writeInt32LE(interfaceIndex, 4);
  body.writeUInt32LE(parent, 12);
  return encodeMessage({ kind: RTM_GETTFILTER, flags: NLM_F_REQUEST_DUMP, body });
}

/** Reads one datagram. Throws NetlinkError where a length reaches beyond what was received, or an element is too short. */
export function decodeFilterDump(datagram: Buffer): FilterDump {
  const filters: Filter[] = [];
  for (const { kind, body } of messagesOf(datagram)) {
    if (kind === NLMSG_DONE) return { filters, last: true, errno: 0 };
    if (kind === NLMSG_ERROR) return { filters, last: true, errno: -wordOf(body, 'an error') | 0 };
    const filter = kind === RTM_NEWTFILTER ? decodeFilter(body) : null;
    // Handle 0 stands for a whole priority, ahead of the filters in it.
    if (filter !== null && filter.handle !== 0) filters.push(filter);
  }
  return { filters, last: false, errno: 0 };
}

function decodeFilter(message: Buffer): Filter {
  if (message.length < TCMSG) throw new NetlinkError(`a filter of ${message.length} bytes, and ${TCMSG} are the least`);
  const attributes = decodeAttributes(message.subarray(TCMSG));
  const id = decodeAttributes(attributes.get(TCA_OPTIONS) ?? Buffer.alloc(0)).get(TCA_BPF_ID);
  const kind = textOf(attributes.get(TCA_KIND));
  return {
    priority: message.readUInt32LE(16) >>> 16,
    handle: message.readUInt32LE(8),
    kind,
    program: kind === 'bpf' && id !== undefined ? wordOf(id, 'a program id') >>> 0 : 0,
  };
}

/** What stands under each attribute's number. Throws NetlinkError where one reaches beyond what was received. */
export function decodeAttributes(bytes: Buffer): ReadonlyMap<number, Buffer> {
  const found = new Map<number, Buffer>();
  for (let at = 0; at < bytes.length; ) {
    const rest = bytes.subarray(at);
    const size = rest.length < ATTRIBUTE ? 0 : rest.readUInt16LE(0);
    if (size < ATTRIBUTE || size > rest.length) {
      throw new NetlinkError(`an attribute of ${size} bytes, and ${rest.length} are left`);
    }
    found.set(rest.readUInt16LE(2) & 0x3fff, rest.subarray(ATTRIBUTE, size));
    at += aligned(size);
  }
  return found;
}

/** The text of an attribute, up to its zero; '' where there is none. */
export function textOf(bytes: Buffer | undefined): string {
  return (bytes ?? Buffer.alloc(0)).toString().replace(/\0.*$/s, '');
}

function wordOf(bytes: Buffer, what: string): number {
  if (bytes.length < 4) throw new NetlinkError(`${what} of ${bytes.length} bytes, and 4 are the least`);
  return bytes.readInt32LE(0);
}

function aligned(size: number): number {
  return Math.ceil(size / 4) * 4;
}

// rtnetlink's messages about filters: the request for a dump, and what comes back. Pure: bytes in, values out. Layouts are
// those of <linux/netlink.h> and <linux/rtnetlink.h>.

const RTM_NEWTFILTER = 44;
const RTM_GETTFILTER = 46;
const NLM_F_REQUEST_DUMP = 0x301;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
/** struct nlmsghdr, struct tcmsg, struct rtattr. */
const HEADER = 16;
const TCMSG = 20;
const ATTRIBUTE = 4;
const TCA_KIND = 1;
const TCA_OPTIONS = 2;
const TCA_BPF_ID = 11;

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

/** Bytes that are not what they should be: says where, and what was found. */
export class NetlinkError extends Error {
  constructor(message: string) {
    super(`netlink: ${message}`);
    this.name = 'NetlinkError';
  }
}

/** Asks for every filter below a parent (TC_H_...) of an interface. */
export function encodeFilterDump(interfaceIndex: number, parent: number): Buffer {
  const request = Buffer.alloc(HEADER + TCMSG);
  request.writeUInt32LE(request.length, 0);
  request.writeUInt16LE(RTM_GETTFILTER, 4);
  request.writeUInt16LE(NLM_F_REQUEST_DUMP, 6);
  request.writeInt32LE(interfaceIndex, HEADER + 4);
  request.writeUInt32LE(parent, HEADER + 12);
  return request;
}

/** Reads one datagram. Throws NetlinkError where a length reaches beyond what was received, or an element is too short. */
export function decodeFilterDump(datagram: Buffer): FilterDump {
  const filters: Filter[] = [];
  for (let at = 0; at < datagram.length; ) {
    const rest = datagram.subarray(at);
    const size = rest.length < HEADER ? 0 : rest.readUInt32LE(0);
    if (size < HEADER || size > rest.length) {
      throw new NetlinkError(`a message of ${size} bytes at byte ${at}, and ${rest.length} are left`);
    }
    const body = rest.subarray(HEADER, size);
    const kind = rest.readUInt16LE(4);
    if (kind === NLMSG_DONE) return { filters, last: true, errno: 0 };
    if (kind === NLMSG_ERROR) return { filters, last: true, errno: -wordOf(body, 'an error') | 0 };
    const filter = kind === RTM_NEWTFILTER ? decodeFilter(body) : null;
    // Handle 0 stands for a whole priority, ahead of the filters in it.
    if (filter !== null && filter.handle !== 0) filters.push(filter);
    at += aligned(size);
  }
  return { filters, last: false, errno: 0 };
}

function decodeFilter(message: Buffer): Filter {
  if (message.length < TCMSG) throw new NetlinkError(`a filter of ${message.length} bytes, and ${TCMSG} are the least`);
  const attributes = decodeAttributes(message.subarray(TCMSG));
  const id = decodeAttributes(attributes.get(TCA_OPTIONS) ?? Buffer.alloc(0)).get(TCA_BPF_ID);
  const kind = (attributes.get(TCA_KIND) ?? Buffer.alloc(0)).toString().replace(/\0.*$/s, '');
  return {
    priority: message.readUInt32LE(16) >>> 16,
    handle: message.readUInt32LE(8),
    kind,
    program: kind === 'bpf' && id !== undefined ? wordOf(id, 'a program id') >>> 0 : 0,
  };
}

function decodeAttributes(bytes: Buffer): ReadonlyMap<number, Buffer> {
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

function wordOf(bytes: Buffer, what: string): number {
  if (bytes.length < 4) throw new NetlinkError(`${what} of ${bytes.length} bytes, and 4 are the least`);
  return bytes.readInt32LE(0);
}

function aligned(size: number): number {
  return Math.ceil(size / 4) * 4;
}

// Filters of an interface's clsact queue: where programs hang on kernels without tcx. libbpf changes them, rtnetlink lists them.
import koffi from 'koffi';
import { SystemCallError } from './sockets.ts';

const lib = koffi.load('libbpf.so.1');
const libc = koffi.load('libc.so.6');
const call = {
  hookCreate: lib.func('int bpf_tc_hook_create(void *hook)'),
  hookDestroy: lib.func('int bpf_tc_hook_destroy(void *hook)'),
  attach: lib.func('int bpf_tc_attach(void *hook, void *options)'),
  detach: lib.func('int bpf_tc_detach(void *hook, void *options)'),
  socket: libc.func('int socket(int family, int kind, int protocol)'),
  send: libc.func('long send(int fd, void *data, size_t size, int flags)'),
  receive: libc.func('long recv(int fd, void *data, size_t size, int flags)'),
  close: libc.func('int close(int fd)'),
};

/** Which packets of an interface: those that come in there, or those that go out. */
export type FilterPlace = 'ingress' | 'egress';

/** One filter, as the kernel lists it: the order of the list is the order in which packets meet them. */
export type Filter = {
  readonly priority: number;
  readonly handle: number;
  readonly kind: string;
  /** The program's id; 0 where the filter is none of BPF. */
  readonly program: number;
};

/** Where a filter stands: lower priorities first; of one priority, what was added last comes first. */
export type FilterKey = { readonly priority: number; readonly handle: number };

const POINT = { ingress: 1, egress: 2 } as const;
const BOTH = 3;
const REPLACE = 1;
/** What the kernel says of a filter, a queue or an interface that is not there. */
const GONE = ['ENOENT', 'EINVAL', 'ENODEV'] as const;

/** struct bpf_tc_hook. */
function hookOf(interfaceIndex: number, point: number): Buffer {
  const hook = Buffer.alloc(24);
  hook.writeBigUInt64LE(24n, 0);
  hook.writeInt32LE(interfaceIndex, 8);
  hook.writeInt32LE(point, 12);
  return hook;
}

/** struct bpf_tc_opts. */
function optionsOf(key: FilterKey, program: number, flags: number): Buffer {
  const options = Buffer.alloc(32);
  options.writeBigUInt64LE(32n, 0);
  options.writeInt32LE(program, 8);
  options.writeUInt32LE(flags, 12);
  options.writeUInt32LE(key.handle, 20);
  options.writeUInt32LE(key.priority, 24);
  return options;
}

/** Gives an interface a clsact queue; false where it has one already. */
export function createClsact(interfaceIndex: number): boolean {
  return check('bpf_tc_hook_create', call.hookCreate(hookOf(interfaceIndex, BOTH)), 'EEXIST') === null;
}

/** Takes the clsact queue and every filter on it away; no error where they, or the interface, are gone. */
export function destroyClsact(interfaceIndex: number): void {
  check('bpf_tc_hook_destroy', call.hookDestroy(hookOf(interfaceIndex, BOTH)), ...GONE);
}

/** Puts a program on a place, in direct-action mode; one that stands there under this key is swapped without a gap. */
export function attachFilter(interfaceIndex: number, place: FilterPlace, key: FilterKey, program: number): void {
  const hook = hookOf(interfaceIndex, POINT[place]);
  check('bpf_tc_attach', call.attach(hook, optionsOf(key, program, REPLACE)));
}

/** Takes a filter away; false where it, its queue or its interface is gone. */
export function detachFilter(interfaceIndex: number, place: FilterPlace, key: FilterKey): boolean {
  const hook = hookOf(interfaceIndex, POINT[place]);
  const result = call.detach(hook, optionsOf(key, 0, 0));
  return check('bpf_tc_detach', result, ...GONE) === null;
}

/** libbpf returns -errno. The name of an expected error, or null. */
function check(name: string, result: unknown, ...expected: readonly string[]): string | null {
  if (typeof result === 'number' && result >= 0) return null;
  const error = new SystemCallError(name, typeof result === 'number' ? -result : koffi.errno());
  if (expected.includes(error.code)) return error.code;
  throw error;
}

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const RTM_NEWTFILTER = 44;
const RTM_GETTFILTER = 46;
const NLM_F_REQUEST_DUMP = 0x301;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLMSG_HEADER = 16;
const TCMSG = 20;
const TCA_KIND = 1;
const TCA_OPTIONS = 2;
const TCA_BPF_ID = 11;
/** TC_H_CLSACT and the minor numbers of its two sides. */
const PARENT = { ingress: 0xffff_fff2, egress: 0xffff_fff3 } as const;

/** The filters at a place, first to last; none where the queue or the interface is gone. */
export function listFilters(interfaceIndex: number, place: FilterPlace): readonly Filter[] {
  const fd = Number(call.socket(AF_NETLINK, SOCK_RAW_CLOEXEC, 0));
  if (fd < 0) throw new SystemCallError('socket', koffi.errno());
  try {
    const request = dumpRequest(interfaceIndex, place);
    if (Number(call.send(fd, request, request.length, 0)) < 0) throw new SystemCallError('send', koffi.errno());
    return receiveFilters(fd);
  } finally {
    call.close(fd);
  }
}

function dumpRequest(interfaceIndex: number, place: FilterPlace): Buffer {
  const request = Buffer.alloc(NLMSG_HEADER + TCMSG);
  request.writeUInt32LE(request.length, 0);
  request.writeUInt16LE(RTM_GETTFILTER, 4);
  request.writeUInt16LE(NLM_F_REQUEST_DUMP, 6);
  request.writeInt32LE(interfaceIndex, NLMSG_HEADER + 4);
  request.writeUInt32LE(PARENT[place], NLMSG_HEADER + 12);
  return request;
}

function receiveFilters(fd: number): readonly Filter[] {
  const filters: Filter[] = [];
  const buffer = Buffer.alloc(1 << 16);
  for (;;) {
    const size = Number(call.receive(fd, buffer, buffer.length, 0));
    if (size < 0) throw new SystemCallError('recv', koffi.errno());
    for (let at = 0; at + NLMSG_HEADER <= size; ) {
      const length = Math.max(buffer.readUInt32LE(at), NLMSG_HEADER);
      const kind = buffer.readUInt16LE(at + 4);
      if (kind === NLMSG_DONE) return filters;
      if (kind === NLMSG_ERROR) throw new SystemCallError('RTM_GETTFILTER', -buffer.readInt32LE(at + NLMSG_HEADER));
      const filter = kind === RTM_NEWTFILTER ? readFilter(buffer.subarray(at + NLMSG_HEADER, at + length)) : null;
      // Handle 0 stands for a whole priority, ahead of the filters in it.
      if (filter !== null && filter.handle !== 0) filters.push(filter);
      at += (length + 3) & ~3;
    }
  }
}

function readFilter(message: Buffer): Filter {
  const attributes = readAttributes(message.subarray(TCMSG));
  const id = readAttributes(attributes.get(TCA_OPTIONS) ?? Buffer.alloc(0)).get(TCA_BPF_ID);
  const kind = (attributes.get(TCA_KIND) ?? Buffer.alloc(0)).toString().replace(/\0.*$/s, '');
  return {
    priority: message.readUInt32LE(16) >>> 16,
    handle: message.readUInt32LE(8),
    kind,
    program: kind === 'bpf' && id !== undefined ? id.readUInt32LE(0) : 0,
  };
}

function readAttributes(bytes: Buffer): ReadonlyMap<number, Buffer> {
  const found = new Map<number, Buffer>();
  for (let at = 0; at + 4 <= bytes.length; ) {
    const length = Math.max(bytes.readUInt16LE(at), 4);
    found.set(bytes.readUInt16LE(at + 2) & 0x3fff, bytes.subarray(at + 4, at + length));
    at += (length + 3) & ~3;
  }
  return found;
}

// Filters of an interface's clsact queue: where programs hang on kernels without tcx. libbpf changes them, rtnetlink lists them.
import koffi from 'koffi';
import { readInterface } from './interfaces.ts';
import { decodeFilterDump, encodeFilterDump, type Filter } from './netlink.ts';
import { FILTER_PARENT, makeClsact, makeFilter } from './route-messages.ts';
import type { Rtnetlink } from './rtnetlink.ts';
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

/** Where a filter stands: lower priorities first; of one priority, what was added last comes first. */
export type FilterKey = { readonly priority: number; readonly handle: number };

const POINT = { ingress: 1, egress: 2 } as const;
const BOTH = 3;
const REPLACE = 1;
const EEXIST = 17;
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

/** Filters of an interface have no place: somebody's `ingress` queue is where clsact would be. */
export class QueueTaken extends SystemCallError {
  constructor() {
    super('bpf_tc_hook_create', EEXIST);
    this.name = 'QueueTaken';
    this.message = "somebody's ingress queue is there, where clsact would be: no filter can judge what goes out by it";
  }
}

/**
 * Gives an interface a clsact queue; false where it has one already. Throws QueueTaken: of an `ingress` queue the kernel
 * says the same as of a clsact one, and takes filters for egress, which then see what comes in.
 */
export function createClsact(interfaceIndex: number): boolean {
  const made = check('bpf_tc_hook_create', call.hookCreate(hookOf(interfaceIndex, BOTH)), 'EEXIST') === null;
  if (!made && readInterface(interfaceIndex)?.queues.includes('ingress')) throw new QueueTaken();
  return made;
}

/** As `createClsact`, by a socket that is open. */
export function createClsactBy(socket: Rtnetlink, interfaceIndex: number): boolean {
  const [outcome] = socket.ask([makeClsact(interfaceIndex)]);
  return outcome?.errno === 0 || createClsact(interfaceIndex);
}

/** Puts a program on both places, by one call of the kernel; the queue is new. */
export function fillClsact(
  socket: Rtnetlink,
  interfaceIndex: number,
  key: FilterKey,
  filters: readonly { readonly place: FilterPlace; readonly program: number }[],
): void {
  const messages = filters.map((filter) => makeFilter({ index: interfaceIndex, ...key, ...filter }));
  socket.change('filters of clsact', messages);
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
/** Answers are read here, by one at a time: reading never waits. The kernel makes none longer than 32 KiB. */
const room: Buffer = Buffer.allocUnsafeSlow(1 << 16);

/** The filters at a place, first to last; none where the queue or the interface is gone. */
export function listFilters(interfaceIndex: number, place: FilterPlace): readonly Filter[] {
  const fd = Number(call.socket(AF_NETLINK, SOCK_RAW_CLOEXEC, 0));
  if (fd < 0) throw new SystemCallError('socket', koffi.errno());
  try {
    const request = encodeFilterDump(interfaceIndex, FILTER_PARENT[place]);
    if (Number(call.send(fd, request, request.length, 0)) < 0) throw new SystemCallError('send', koffi.errno());
    return receiveFilters(fd);
  } finally {
    call.close(fd);
  }
}

function receiveFilters(fd: number): readonly Filter[] {
  const filters: Filter[] = [];
  for (;;) {
    const size = Number(call.receive(fd, room, room.length, 0));
    if (size < 0) throw new SystemCallError('recv', koffi.errno());
    const part = decodeFilterDump(room.subarray(0, size));
    if (part.errno !== 0) throw new SystemCallError('RTM_GETTFILTER', part.errno);
    filters.push(...part.filters);
    if (part.last) return filters;
  }
}

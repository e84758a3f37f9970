// What a pod can leave to be written after its packet was judged: a checksum, at any place, and bytes of the packet
// itself, in memory that the pod goes on writing.
import koffi from 'koffi';
import { closeSocket, inNetns, openSocket, SystemCallError } from '#kernel/sockets.ts';
import type { PodBed } from './pod-bed.ts';

const libc = koffi.load('libc.so.6');
const call = {
  socket: libc.func('int socket(int family, int kind, int protocol)'),
  bind: libc.func('int bind(int fd, void *address, uint32_t length)'),
  connect: libc.func('int connect(int fd, void *address, uint32_t length)'),
  send: libc.func('long send(int fd, void *data, size_t size, int flags)'),
  setsockopt: libc.func('int setsockopt(int fd, int level, int name, void *value, uint32_t length)'),
  nameToIndex: libc.func('uint32_t if_nametoindex(const char *name)'),
  mmap: libc.func('uintptr_t mmap(void *at, size_t length, int protection, int flags, int fd, long offset)'),
  munmap: libc.func('int munmap(uintptr_t at, size_t length)'),
  memcpy: libc.func('void *memcpy(uintptr_t into, void *from, size_t length)'),
  pipe: libc.func('int pipe(void *ends)'),
  vmsplice: libc.func('long vmsplice(int pipe, void *pieces, size_t count, uint32_t flags)'),
  splice: libc.func('long splice(int from, void *offset, int into, void *at, size_t length, uint32_t flags)'),
};

const AF_PACKET = 17;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const SOL_PACKET = 263;
const PACKET_VNET_HDR = 15;
const PROT_READ_WRITE = 3;
const MAP_SHARED_ANONYMOUS = 0x21;
const PAGE = 4096;
const VXLAN_PORT = 4789;
/** Network 1 (RFC 7348). */
const VXLAN_HEADER = [8, 0, 0, 0, 0, 0, 1, 0];

/** Where a checksum is still to be made: over all from `start` on, written `offset` after it. */
export type LateSum = { readonly start: number; readonly offset: number };

/** Sends a frame by a pod's link with a checksum that is left to whoever needs it. */
export function sendWithLateSum(netns: number, frame: Uint8Array, { start, offset }: LateSum): void {
  const fd = inNetns(netns, () => openLink('eth0'));
  try {
    const yes = Buffer.from([1, 0, 0, 0]);
    check('setsockopt', call.setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, yes, yes.length));
    // struct virtio_net_hdr; its flag 1: a checksum is needed.
    const header = Buffer.from([1, 0, 0, 0, 0, 0, start & 255, start >> 8, offset & 255, offset >> 8]);
    const bytes = Buffer.concat([header, frame]);
    check('send', call.send(fd, bytes, bytes.length, 0));
  } finally {
    closeSocket(fd);
  }
}

/** A socket that puts frames on an interface, and receives none. */
function openLink(name: string): number {
  const fd = check('socket', call.socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
  const address = Buffer.alloc(20);
  address.writeUInt16LE(AF_PACKET, 0);
  address.writeInt32LE(call.nameToIndex(name) as number, 4);
  check('bind', call.bind(fd, address, address.length));
  return fd;
}

/**
 * A pod that sends frames from where they lie in its memory: it gives them to itself as what a tunnel carries, in
 * pages that are spliced and not copied, and its bridge hands on what comes out of the tunnel.
 */
export class PageSender {
  readonly #memory: number;
  readonly #socket: number;
  readonly #pipe: Buffer = Buffer.alloc(8);

  constructor(bed: PodBed, pod: number) {
    const run = (...args: readonly string[]): string => bed.run(bed.pod(pod), 'ip', ...args);
    run('link', 'add', 'tunnel', 'type', 'vxlan', 'id', '1', 'dstport', String(VXLAN_PORT), 'local', '127.0.0.1');
    run('link', 'add', 'bridge', 'type', 'bridge');
    for (const port of ['tunnel', 'eth0']) run('link', 'set', port, 'master', 'bridge');
    for (const name of ['tunnel', 'bridge']) run('link', 'set', name, 'up');
    this.#memory = Number(call.mmap(null, PAGE, PROT_READ_WRITE, MAP_SHARED_ANONYMOUS, -1, 0));
    this.#socket = inNetns(bed.pod(pod).netns, () => openSocket(4, 'datagram'));
    // struct sockaddr_in: 127.0.0.1
    const own = Buffer.from([2, 0, VXLAN_PORT >> 8, VXLAN_PORT & 255, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    check('connect', call.connect(this.#socket, own, own.length));
    check('pipe', call.pipe(this.#pipe));
  }

  send(frame: Uint8Array): void {
    const bytes = Buffer.concat([Buffer.from(VXLAN_HEADER), frame]);
    call.memcpy(this.#memory, bytes, bytes.length);
    const [out, into] = [this.#pipe.readInt32LE(0), this.#pipe.readInt32LE(4)];
    // struct iovec
    const piece = Buffer.from(BigUint64Array.of(BigInt(this.#memory), BigInt(bytes.length)).buffer);
    check('vmsplice', call.vmsplice(into, piece, 1, 0));
    check('splice', call.splice(out, null, this.#socket, null, bytes.length, 0));
  }

  /** Writes into the last frame, which may be on its way. */
  overwrite(at: number, bytes: Uint8Array): void {
    call.memcpy(this.#memory + VXLAN_HEADER.length + at, bytes, bytes.length);
  }

  close(): void {
    for (const fd of [this.#socket, this.#pipe.readInt32LE(0), this.#pipe.readInt32LE(4)]) closeSocket(fd);
    call.munmap(this.#memory, PAGE);
  }
}

function check(name: string, result: unknown): number {
  if ((result as number) < 0) throw new SystemCallError(name, koffi.errno());
  return result as number;
}

// Sockets and network namespaces by plain system calls: Node's own sockets can't be opened inside another namespace.
import { closeSync, openSync } from 'node:fs';
import { constants } from 'node:os';
import { getSystemErrorMessage } from 'node:util';
import koffi from 'koffi';
import type { Address } from '#net/address.ts';
import type { Protocol } from '#net/protocol.ts';

const libc = koffi.load('libc.so.6');
const call = {
  setns: libc.func('int setns(int fd, int kind)'),
  socket: libc.func('int socket(int family, int kind, int protocol)'),
  bind: libc.func('int bind(int fd, void *address, uint32_t length)'),
  connect: libc.func('int connect(int fd, void *address, uint32_t length)'),
  listen: libc.func('int listen(int fd, int backlog)'),
  getpeername: libc.func('int getpeername(int fd, void *address, void *length)'),
  accept4: libc.func('int accept4(int fd, void *address, void *length, int flags)'),
  sendto: libc.func('long sendto(int fd, void *data, size_t size, int flags, void *address, uint32_t length)'),
  recvfrom: libc.func('long recvfrom(int fd, void *data, size_t size, int flags, void *address, void *length)'),
  setsockopt: libc.func('int setsockopt(int fd, int level, int name, void *value, uint32_t length)'),
  getsockopt: libc.func('int getsockopt(int fd, int level, int name, void *value, void *length)'),
  close: libc.func('int close(int fd)'),
  nameToIndex: libc.func('uint32_t if_nametoindex(const char *name)'),
  epollCreate: libc.func('int epoll_create1(int flags)'),
  epollCtl: libc.func('int epoll_ctl(int epoll, int operation, int fd, void *event)'),
  epollWait: libc.func('int epoll_wait(int epoll, void *events, int size, int timeout)'),
};

const CLONE_NEWNET = 0x40000000;
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_RAW = 3;
const SOCK_FLAGS = 0o4000 | 0o2000000; // SOCK_NONBLOCK | SOCK_CLOEXEC
const MSG_NOSIGNAL = 0x4000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_ERROR = 4;
const SO_RCVBUF = 8;
const SO_LINGER = 13;
const SO_NETNS_COOKIE = 71;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;

/** A system call that failed: `code` is the errno's name (`ECONNREFUSED`). */
export class SystemCallError extends Error {
  readonly call: string;
  readonly code: string;

  constructor(name: string, errno: number) {
    super(`${name}: ${getSystemErrorMessage(-errno)}`);
    this.name = 'SystemCallError';
    this.call = name;
    this.code = errnoName(errno);
  }
}

/** What a non-blocking transfer did. `failed` is the socket's own error, for example a refused connection. */
export type Transfer =
  | { readonly kind: 'done'; readonly bytes: number }
  | { readonly kind: 'would-block' }
  | { readonly kind: 'failed'; readonly code: string };

/** A datagram's sender. */
export type Peer = { readonly address: Address; readonly port: number };

/** What a socket carries: connections, datagrams, or whole packets of one protocol (IPv4: with the IP header). */
export type SocketKind = 'stream' | 'datagram' | { readonly raw: Protocol };

/** Enters a network namespace for good (this thread alone: mounts, and so the bpffs, stay as they are). */
export function enterNetns(path: string): void {
  const fd = openSync(path, 'r');
  try {
    check('setns', call.setns(fd, CLONE_NEWNET));
  } finally {
    closeSync(fd);
  }
}

/** A handle on a network namespace (`/run/netns/NAME`), to be closed by `closeSocket`. */
export function openNetns(path: string): number {
  return openSync(path, 'r');
}

/** Runs `work` inside a namespace and comes back, whatever happens. `work` must not wait: others share this thread. */
export function inNetns<T>(netns: number, work: () => T): T {
  const home = openSync('/proc/thread-self/ns/net', 'r');
  try {
    check('setns', call.setns(netns, CLONE_NEWNET));
    try {
      return work();
    } finally {
      check('setns', call.setns(home, CLONE_NEWNET));
    }
  } finally {
    closeSync(home);
  }
}

/** The index of an interface of the namespace that the thread is in; 0 where there is none of this name. */
export function interfaceIndex(name: string): number {
  return call.nameToIndex(name) as number;
}

/** A non-blocking socket in the namespace that the thread is in. IPv6 sockets never carry IPv4. */
export function openSocket(family: 4 | 6, kind: SocketKind): number {
  const type = kind === 'stream' ? SOCK_STREAM : kind === 'datagram' ? SOCK_DGRAM : SOCK_RAW;
  const protocol = typeof kind === 'string' ? 0 : kind.raw;
  const fd = check('socket', call.socket(family === 4 ? AF_INET : AF_INET6, type | SOCK_FLAGS, protocol));
  if (family === 6 && typeof kind === 'string') setOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
  return fd;
}

/** Binds to an address and port (0 on a raw socket). */
export function bindSocket(fd: number, address: Address, port: number): void {
  const name = encodeSocketAddress(address, port);
  check('bind', call.bind(fd, name, name.length));
}

/** Lets a listener take a port whose last connections still linger. For streams, before binding. */
export function reuseAddress(fd: number): void {
  setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
}

export function listenSocket(fd: number, backlog: number): void {
  check('listen', call.listen(fd, backlog));
}

/** The next waiting connection, or null. */
export function acceptSocket(fd: number): number | null {
  const accepted = call.accept4(fd, null, null, SOCK_FLAGS) as number;
  return accepted < 0 ? null : accepted;
}

/** Who is at the other end of a connection. */
export function peerOf(fd: number): Peer | null {
  senderLength.writeUInt32LE(senderName.length);
  check('getpeername', call.getpeername(fd, senderName, senderLength));
  return decodeSocketAddress(senderName.subarray(0, senderLength.readUInt32LE()));
}

/** Starts connecting; a refusal that is known at once is `failed`, otherwise `socketError` tells later. */
export function connectSocket(fd: number, address: Address, port: number): Transfer {
  const name = encodeSocketAddress(address, port);
  return transfer(call.connect(fd, name, name.length) as number);
}

/** Sends without waiting; `to` is null on a connected socket. */
export function sendSocket(fd: number, data: Uint8Array, to: Peer | null): Transfer {
  const name = to === null ? null : encodeSocketAddress(to.address, to.port);
  return transfer(call.sendto(fd, data, data.length, MSG_NOSIGNAL, name, name?.length ?? 0) as number);
}

/** Reads what is there into `buffer`. Zero bytes on a stream: the other side closed. */
export function receiveSocket(fd: number, buffer: Uint8Array): Transfer {
  return transfer(call.recvfrom(fd, buffer, buffer.length, 0, null, null) as number);
}

const senderName = Buffer.alloc(28);
const senderLength = Buffer.alloc(4);

/** As `receiveSocket`, with the sender of what was read. */
export function receiveFrom(fd: number, buffer: Uint8Array): { readonly got: Transfer; readonly from: Peer | null } {
  senderLength.writeUInt32LE(senderName.length);
  const got = transfer(call.recvfrom(fd, buffer, buffer.length, 0, senderName, senderLength) as number);
  return {
    got,
    from: got.kind === 'done' ? decodeSocketAddress(senderName.subarray(0, senderLength.readUInt32LE())) : null,
  };
}

/** The error that waits on a socket (its errno's name), or null. Reading it clears it. */
export function socketError(fd: number): string | null {
  const value = Buffer.alloc(4);
  const length = Buffer.from([4, 0, 0, 0]);
  check('getsockopt', call.getsockopt(fd, SOL_SOCKET, SO_ERROR, value, length));
  const errno = value.readInt32LE();
  return errno === 0 ? null : errnoName(errno);
}

/** The kernel's own number for the network namespace that the thread is in: never another one's. */
export function netnsCookie(): bigint {
  const fd = openSocket(4, 'datagram');
  try {
    const value = Buffer.alloc(8);
    check('getsockopt', call.getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, value, Buffer.from([8, 0, 0, 0])));
    return value.readBigUInt64LE();
  } finally {
    closeSocket(fd);
  }
}

/** Closing sends a reset instead of the usual farewell: no half-closed connection stays behind. */
export function resetOnClose(fd: number): void {
  const value = Buffer.alloc(8);
  value.writeInt32LE(1);
  check('setsockopt', call.setsockopt(fd, SOL_SOCKET, SO_LINGER, value, value.length));
}

/** Room for what arrives before it is read, in bytes (the kernel caps it at net.core.rmem_max). */
export function setReceiveBuffer(fd: number, bytes: number): void {
  setOption(fd, SOL_SOCKET, SO_RCVBUF, bytes);
}

export function closeSocket(fd: number): void {
  check('close', call.close(fd));
}

const EPOLLIN = 1;
const EPOLLOUT = 4;
// struct epoll_event is packed on x86-64 alone.
const EVENT_SIZE = process.arch === 'x64' ? 12 : 16;
const EVENT_DATA = process.arch === 'x64' ? 4 : 8;

/** Waits for many sockets at once. */
export class Poller {
  readonly #epoll: number;
  readonly #events: Buffer = Buffer.alloc(EVENT_SIZE * 1024);

  constructor() {
    this.#epoll = check('epoll_create1', call.epollCreate(0o2000000));
  }

  /** Watches a socket until it is closed, for reading, or for reading and writing. */
  add(fd: number, interest: 'read' | 'read-write'): void {
    this.#control(1, fd, interest);
  }

  change(fd: number, interest: 'read' | 'read-write'): void {
    this.#control(3, fd, interest);
  }

  /** The sockets that are ready, waiting up to `timeoutMs` on a thread of the pool, so that this one goes on. */
  async wait(timeoutMs: number): Promise<readonly number[]> {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    call.epollWait.async(this.#epoll, this.#events, 1024, timeoutMs, (error: Error | null, count: number) =>
      error === null ? resolve(count) : reject(error),
    );
    const count = await promise;
    return count < 0 ? [] : this.#read(count);
  }

  close(): void {
    closeSocket(this.#epoll);
  }

  #control(operation: number, fd: number, interest: 'read' | 'read-write'): void {
    const event = Buffer.alloc(EVENT_SIZE);
    event.writeUInt32LE(interest === 'read' ? EPOLLIN : EPOLLIN | EPOLLOUT);
    event.writeUInt32LE(fd, EVENT_DATA);
    check('epoll_ctl', call.epollCtl(this.#epoll, operation, fd, event));
  }

  #read(count: number): readonly number[] {
    return Array.from({ length: count }, (_, index) => this.#events.readUInt32LE(index * EVENT_SIZE + EVENT_DATA));
  }
}

function setOption(fd: number, level: number, name: number, value: number): void {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  check('setsockopt', call.setsockopt(fd, level, name, bytes, bytes.length));
}

function transfer(result: number): Transfer {
  if (result >= 0) return { kind: 'done', bytes: result };
  const code = errnoName(koffi.errno());
  return code === 'EAGAIN' || code === 'EINPROGRESS' ? { kind: 'would-block' } : { kind: 'failed', code };
}

function check(name: string, result: unknown): number {
  if (typeof result === 'number' && result >= 0) return result;
  throw new SystemCallError(name, koffi.errno());
}

/** util.getSystemErrorName knows no EINPROGRESS. Of two names of one number the first stays: EAGAIN, not EWOULDBLOCK. */
const ERRNO_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(constants.errno)
    .reverse()
    .map(([name, errno]) => [errno, name]),
);

function errnoName(errno: number): string {
  return ERRNO_NAMES.get(errno) ?? `errno ${errno}`;
}

/** struct sockaddr_in or sockaddr_in6. */
export function encodeSocketAddress(address: Address, port: number): Buffer {
  const bytes = Buffer.alloc(address.family === 4 ? 16 : 28);
  bytes.writeUInt16LE(address.family === 4 ? AF_INET : AF_INET6);
  bytes.writeUInt16BE(port, 2);
  const start = address.family === 4 ? 4 : 8;
  for (const [index, word] of address.words.entries()) bytes.writeUInt32BE(word, start + index * 4);
  return bytes;
}

/** Reads a struct sockaddr_in or sockaddr_in6; null where it is neither, or not whole. */
export function decodeSocketAddress(bytes: Buffer): Peer | null {
  const kind = bytes.length < 2 ? null : bytes.readUInt16LE();
  if (kind !== AF_INET && kind !== AF_INET6) return null;
  if (bytes.length < (kind === AF_INET ? 16 : 28)) return null;
  const family = kind === AF_INET ? 4 : 6;
  const start = family === 4 ? 4 : 8;
  const words = Array.from({ length: family === 4 ? 1 : 4 }, (_, index) => bytes.readUInt32BE(start + index * 4));
  return { address: { family, words }, port: bytes.readUInt16BE(2) };
}

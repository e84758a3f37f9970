// Hears of changes to links, addresses, routes and rules of the namespace that the thread is in.
import koffi from 'koffi';
import { decodeAnswer, type Told } from './netlink.ts';
import { SystemCallError } from './sockets.ts';

const libc = koffi.load('libc.so.6');
const call = {
  socket: libc.func('int socket(int family, int kind, int protocol)'),
  bind: libc.func('int bind(int fd, void *address, uint32_t length)'),
  receive: libc.func('long recv(int fd, void *data, size_t size, int flags)'),
  close: libc.func('int close(int fd)'),
};

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const MSG_DONTWAIT = 0x40;
/** Links; addresses, routes and rules of IPv4; those of IPv6 (<linux/rtnetlink.h>, RTMGRP_... and RTNLGRP_IPV6_RULE). */
const GROUPS = 1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 0x40000;
const room: Buffer = Buffer.allocUnsafeSlow(1 << 16);

export class RouteWatch {
  readonly #fd: number;

  constructor() {
    this.#fd = Number(call.socket(AF_NETLINK, SOCK_RAW_CLOEXEC, 0));
    if (this.#fd < 0) throw new SystemCallError('socket', koffi.errno());
    const name = Buffer.alloc(12);
    name.writeUInt16LE(AF_NETLINK, 0);
    name.writeUInt32LE(GROUPS, 8);
    if (Number(call.bind(this.#fd, name, name.length)) >= 0) return;
    const errno = koffi.errno();
    this.close();
    throw new SystemCallError('bind', errno);
  }

  /** What has changed since it was asked last; null where some of that was lost. Never waits. */
  changes(): readonly Told[] | null {
    const told: Told[] = [];
    for (;;) {
      const size = Number(call.receive(this.#fd, room, room.length, MSG_DONTWAIT));
      if (size < 0) {
        const error = new SystemCallError('recv', koffi.errno());
        if (error.code === 'EAGAIN') return told;
        if (error.code === 'ENOBUFS') return null;
        throw error;
      }
      for (const part of decodeAnswer(Buffer.from(room.subarray(0, size)))) if (!('errno' in part)) told.push(part);
    }
  }

  close(): void {
    call.close(this.#fd);
  }
}

// Whole frames on an interface (AF_PACKET): what BPF_PROG_TEST_RUN can't carry, and who listens below every socket.
import koffi from 'koffi';
import { closeSocket, inNetns, SystemCallError, setReceiveBuffer } from '#kernel/sockets.ts';

const libc = koffi.load('libc.so.6');
const call = {
  socket: libc.func('int socket(int family, int kind, int protocol)'),
  bind: libc.func('int bind(int fd, void *address, uint32_t length)'),
  send: libc.func('long send(int fd, void *data, size_t size, int flags)'),
  recvfrom: libc.func('long recvfrom(int fd, void *data, size_t size, int flags, void *address, void *length)'),
  setsockopt: libc.func('int setsockopt(int fd, int level, int name, void *value, uint32_t length)'),
  nameToIndex: libc.func('uint32_t if_nametoindex(const char *name)'),
};

const AF_PACKET = 17;
const SOCK_RAW = 3;
const SOCK_FLAGS = 0o4000 | 0o2000000; // SOCK_NONBLOCK | SOCK_CLOEXEC
const ALL = 0x0300; // ETH_P_ALL, as on the wire
const SOL_PACKET = 263;
const PACKET_VNET_HDR = 15;
const PACKET_OUTGOING = 4;
/** struct virtio_net_hdr; with its flag 1, the checksum that starts and stands so far in is left for later: valid. */
const VNET_HEADER = 10;
/** Where the least of IP headers ends: the kernel takes no checksum to start before that. */
const CHECKSUM_START = 34;

/** What `checksums` says of a frame: as they are, or taken for right by every kernel on the way. */
export type Checksums = 'as-is' | 'taken-for-right';

/** One interface in one namespace. */
export class Wire {
  readonly #fd: number;
  readonly #hasHeader: boolean;
  readonly #buffer: Buffer = Buffer.alloc(70_000);
  readonly #address: Buffer = Buffer.alloc(20);
  readonly #length: Buffer = Buffer.alloc(4);

  constructor(netns: number, interfaceName: string, checksums: Checksums = 'as-is') {
    this.#hasHeader = checksums === 'taken-for-right';
    this.#fd = inNetns(netns, () => this.#open(interfaceName));
    setReceiveBuffer(this.#fd, 8 << 20);
  }

  /** Puts a frame on the interface. At least 14 bytes; the kernel refuses what is longer than the MTU. */
  send(frame: Uint8Array): void {
    const bytes = this.#hasHeader ? Buffer.concat([vnetHeader(frame.length), frame]) : frame;
    if ((call.send(this.#fd, bytes, bytes.length, 0) as number) < 0) throw new SystemCallError('send', koffi.errno());
  }

  /** Every frame that came in since the last call. */
  received(): readonly Uint8Array[] {
    const frames: Uint8Array[] = [];
    for (;;) {
      this.#length.writeUInt32LE(this.#address.length);
      const size = call.recvfrom(this.#fd, this.#buffer, this.#buffer.length, 0, this.#address, this.#length) as number;
      if (size < 0) return frames;
      if (this.#address.readUInt8(10) === PACKET_OUTGOING) continue;
      frames.push(Uint8Array.from(this.#buffer.subarray(this.#hasHeader ? VNET_HEADER : 0, size)));
    }
  }

  close(): void {
    closeSocket(this.#fd);
  }

  #open(interfaceName: string): number {
    const fd = call.socket(AF_PACKET, SOCK_RAW | SOCK_FLAGS, ALL) as number;
    if (fd < 0) throw new SystemCallError('socket', koffi.errno());
    const address = Buffer.alloc(20);
    address.writeUInt16LE(AF_PACKET, 0);
    address.writeUInt16LE(ALL, 2);
    address.writeInt32LE(call.nameToIndex(interfaceName) as number, 4);
    if ((call.bind(fd, address, address.length) as number) < 0) throw new SystemCallError('bind', koffi.errno());
    const yes = Buffer.from([1, 0, 0, 0]);
    if (this.#hasHeader && (call.setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, yes, yes.length) as number) < 0) {
      throw new SystemCallError('setsockopt', koffi.errno());
    }
    return fd;
  }
}

function vnetHeader(length: number): Buffer {
  const header = Buffer.alloc(VNET_HEADER);
  if (length < CHECKSUM_START + 2) return header;
  header.writeUInt8(1, 0);
  header.writeUInt16LE(CHECKSUM_START, 6);
  return header;
}

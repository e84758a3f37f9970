// The interfaces of the namespace that the thread is in, as the kernel tells of them.
import type { Address } from '#net/address.ts';
import {
  ASK_ALL,
  askIngressQueue,
  askLink,
  type LinkRecord,
  readAddressRecord,
  readLinkRecord,
  readQueueRecord,
} from './route-messages.ts';
import { type Outcome, Rtnetlink } from './rtnetlink.ts';
import { SystemCallError } from './sockets.ts';

/** An interface, the kinds of all its queues, and its addresses. */
export type Interface = LinkRecord & { readonly queues: readonly string[] };

const ENODEV = 19;

/** One interface; null where there is none of this index. Throws SystemCallError where the kernel refuses to say. */
export function readInterface(index: number): Interface | null {
  return withSocket((socket) => {
    const [link, ingress] = socket.ask([askLink(index), askIngressQueue(index)]);
    const [record] = link?.told.flatMap((told) => readLinkRecord(told) ?? []) ?? [];
    if (record === undefined) {
      if (link?.errno === ENODEV) return null;
      throw new SystemCallError('RTM_GETLINK', link?.errno ?? 0);
    }
    const queues = ingress?.told.flatMap((told) => readQueueRecord(told)?.kind ?? []) ?? [];
    return { ...record, queues: [record.queue, ...queues] };
  });
}

/** All interfaces, with their addresses. */
export function readInterfaces(): readonly (Interface & { readonly addresses: readonly Address[] })[] {
  return withSocket((socket) => {
    const queues = Map.groupBy(recordsOf(socket.list(ASK_ALL.queues), readQueueRecord), ({ index }) => index);
    const addresses = Map.groupBy(recordsOf(socket.list(ASK_ALL.addresses), readAddressRecord), ({ index }) => index);
    return recordsOf(socket.list(ASK_ALL.links), readLinkRecord).map((link) => ({
      ...link,
      queues: [link.queue, ...(queues.get(link.index) ?? []).map(({ kind }) => kind)],
      addresses: (addresses.get(link.index) ?? []).map(({ address }) => address),
    }));
  });
}

/** The addresses of all interfaces that have some, by their index. */
export function readAddresses(): ReadonlyMap<number, readonly Address[]> {
  const records = withSocket((socket) => recordsOf(socket.list(ASK_ALL.addresses), readAddressRecord));
  const byIndex = Map.groupBy(records, ({ index }) => index);
  return new Map([...byIndex].map(([index, all]) => [index, all.map(({ address }) => address)]));
}

function recordsOf<T>(told: Outcome['told'], read: (told: Outcome['told'][number]) => T | null): readonly T[] {
  return told.flatMap((each) => read(each) ?? []);
}

function withSocket<T>(work: (socket: Rtnetlink) => T): T {
  const socket = new Rtnetlink();
  try {
    return work(socket);
  } finally {
    socket.close();
  }
}

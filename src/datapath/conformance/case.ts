// One case of the suite, and the moves that many cases share.
import { tcp } from '../packets.ts';
import type { Names, Place, PodName, Rig } from './rig.ts';

/** What a case can't do without; a datapath that lacks it skips the case with a reason. */
export type Need = 'clock' | 'interleave';

export type Case = {
  readonly name: string;
  /** Only for this family; absent = run for both. */
  readonly family?: 4 | 6;
  readonly needs?: readonly Need[];
  readonly establishedLimit?: number;
  readonly unassuredLimit?: number;
  /** `at` has the addresses of the family that the case runs for. */
  readonly run: (rig: Rig, at: Names) => void;
};

/** Two ends of a connection: `from` opens it. */
export type Connection = { readonly from: string; readonly to: string; readonly sport: number; readonly dport: number };

/** A connection and its other direction. */
export function back(connection: Connection): Connection {
  return { from: connection.to, to: connection.from, sport: connection.dport, dport: connection.sport };
}

/** The first segment of a connection. */
export function syn(connection: Connection): Uint8Array {
  return tcp(connection);
}

/** A segment in the middle of a connection. */
export function data(connection: Connection): Uint8Array {
  return tcp({ ...connection, flags: 'PA' });
}

/** A TCP handshake between two local pods: every packet must pass. */
export function establish(rig: Rig, pods: readonly [PodName, PodName], connection: Connection): void {
  const [client, server] = pods;
  rig.pass(`from ${client}`, tcp(connection));
  rig.pass(`to ${server}`, tcp(connection));
  rig.pass(`from ${server}`, tcp({ ...back(connection), flags: 'SA' }));
  rig.pass(`to ${client}`, tcp({ ...back(connection), flags: 'SA' }));
  rig.pass(`from ${client}`, tcp({ ...connection, flags: 'A' }));
}

/** The end of a connection on which nothing was sent: either side's FIN, and its receipt. */
export function close(rig: Rig, pods: readonly [PodName, PodName], connection: Connection): void {
  const [client, server] = pods;
  rig.pass(`from ${client}`, tcp({ ...connection, flags: 'FA' }));
  rig.pass(`from ${server}`, tcp({ ...back(connection), flags: 'FA', ack: 3 }));
  rig.pass(`from ${client}`, tcp({ ...connection, flags: 'A', sequence: 3, ack: 3 }));
}

/** A TCP handshake between a local pod and somebody elsewhere who opens it. */
export function establishFromAfar(rig: Rig, server: PodName, connection: Connection): void {
  rig.pass(`to ${server}`, tcp(connection));
  rig.pass(`from ${server}`, tcp({ ...back(connection), flags: 'SA' }));
  rig.pass(`to ${server}`, tcp({ ...connection, flags: 'A' }));
}

/** Every place where a local-to-local packet of `from` is judged. */
export function way(from: PodName, to: PodName): readonly Place[] {
  return [`from ${from}`, `to ${to}`];
}

// Every pod to every pod, one datagram each at several ports, against what evaluate() says of the world as it is.
import { setTimeout as pause } from 'node:timers/promises';
import * as sockets from '#kernel/sockets.ts';
import { UDP } from '#net/protocol.ts';
import { evaluate } from '#policy/evaluate.ts';
import { STANDARD_SEMANTICS, type World } from '#policy/world.ts';
import type { BedPod } from '../pod-bed.ts';
import { TRIED_PORTS } from './world.ts';

/** How long an allowed datagram may take, and how long a denied one is waited for after the last allowed one came. */
const LIMIT_MS = 2000;
const AFTER_MS = 20;

export type Try = { readonly name: string; readonly allowed: boolean; arrived: boolean };

export type MatrixResult = { readonly tried: number; readonly allowed: number; readonly wrong: readonly string[] };

/** Sends from each pod to each other and compares. Source ports are fresh, so no earlier flow's verdict is seen. */
export async function tryMatrix(world: World, pods: readonly BedPod[], family: 4 | 6): Promise<MatrixResult> {
  const open: number[] = [];
  const inside = (pod: BedPod, port: number): number => {
    const fd = sockets.inNetns(pod.netns, () => sockets.openSocket(family, 'datagram'));
    open.push(fd);
    sockets.bindSocket(fd, family === 4 ? pod.v4 : pod.v6, port);
    return fd;
  };
  try {
    const servers = pods.flatMap((pod) => TRIED_PORTS.map((port) => inside(pod, port)));
    const tries = pods.flatMap((from) => sendAll(world, { from, pods, family, client: inside(from, 0) }));
    await collect(servers, tries);
    const wrong = tries.filter((one) => one.arrived !== one.allowed);
    return {
      tried: tries.length,
      allowed: tries.filter((one) => one.allowed).length,
      wrong: wrong.map(
        (one) => `${one.name} ${one.arrived ? 'arrived, and is denied' : 'is allowed, and did not arrive'}`,
      ),
    };
  } finally {
    for (const fd of open) sockets.closeSocket(fd);
  }
}

type Sender = {
  readonly from: BedPod;
  readonly pods: readonly BedPod[];
  readonly family: 4 | 6;
  readonly client: number;
};

function sendAll(world: World, { from, pods, family, client }: Sender): readonly Try[] {
  const of = (pod: BedPod): BedPod['v4'] => (family === 4 ? pod.v4 : pod.v6);
  return pods
    .filter((to) => to !== from)
    .flatMap((to) =>
      TRIED_PORTS.map((port) => {
        const flow = { from: of(from), to: of(to), protocol: UDP, port };
        const name = `${from.name} to ${to.name} port ${port} IPv${family}`;
        sockets.sendSocket(client, Buffer.from(name), { address: of(to), port });
        return { name, allowed: evaluate(world, flow, STANDARD_SEMANTICS).verdict === 'allow', arrived: false };
      }),
    );
}

/** Hears what was sent, until all that may arrive has. */
export async function collect(servers: readonly number[], tries: readonly Try[]): Promise<void> {
  const byName = new Map(tries.map((one) => [one.name, one]));
  const buffer = Buffer.alloc(256);
  let endMs = performance.now() + LIMIT_MS;
  let complete = false;
  while (performance.now() < endMs) {
    for (const server of servers) {
      for (let got = sockets.receiveSocket(server, buffer); got.kind === 'done'; ) {
        const found = byName.get(buffer.toString('utf8', 0, got.bytes));
        if (found !== undefined) found.arrived = true;
        got = sockets.receiveSocket(server, buffer);
      }
    }
    if (!complete && tries.every((one) => one.arrived || !one.allowed)) {
      complete = true;
      endMs = performance.now() + AFTER_MS;
    }
    await pause(2);
  }
}

// Every pod to every pod and to a Service, one datagram each at several ports, against what evaluate() says of the world as it is.
import { setTimeout as pause } from 'node:timers/promises';
import * as sockets from '#kernel/sockets.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { UDP } from '#net/protocol.ts';
import { evaluate } from '#policy/evaluate.ts';
import type { Flow } from '#policy/verdict.ts';
import { STANDARD_SEMANTICS } from '#policy/world.ts';
import type { BedPod } from '../pod-bed.ts';
import { ASKED_PORT, behind, changingAddress, type KillWorld } from './services.ts';
import { TRIED_PORTS } from './slots.ts';

/** How long an allowed datagram may take, and how long a denied one is waited for after the last allowed one came. */
const LIMIT_MS = 2000;
const AFTER_MS = 20;
/** Who asks the Service has a port of his own, each for longer than a flow of datagrams lives: who spoke to a backend itself is not sent there. */
const ASKING = { first: 20_000, count: 10_000 };
let asked = 0;

/** A datagram, which bears its name. `may`: the sockets where it may arrive. `must`: it arrives at one of them. */
export type Try = {
  readonly name: string;
  readonly may: readonly number[];
  readonly must: boolean;
  readonly arrived: number[];
};

export type MatrixResult = { readonly tried: number; readonly allowed: number; readonly wrong: readonly string[] };

/** What is said of a flow whose ends are pods. */
export type Judge = (flow: Flow) => boolean;

/** As policy says. */
export function judgeOf(world: KillWorld): Judge {
  return (flow) => evaluate(world, flow, STANDARD_SEMANTICS).verdict === 'allow';
}

/** Sends from each pod to each other and compares. Source ports are fresh, so hardly an earlier flow's verdict is seen. */
export async function tryMatrix(
  world: KillWorld,
  pods: readonly BedPod[],
  family: 4 | 6,
  allows: Judge = judgeOf(world),
): Promise<MatrixResult> {
  const open: number[] = [];
  const of = (pod: BedPod): BedPod['v4'] => (family === 4 ? pod.v4 : pod.v6);
  const inside = (pod: BedPod, port: number): number => {
    const fd = sockets.inNetns(pod.netns, () => sockets.openSocket(family, 'datagram'));
    open.push(fd);
    sockets.bindSocket(fd, of(pod), port);
    return fd;
  };
  try {
    const servers = new Map(
      pods.flatMap((pod) => TRIED_PORTS.map((port) => [nameOf(of(pod), port), inside(pod, port)] as const)),
    );
    const tries = pods.flatMap((pod) => {
      const from = (port: number): Sender => ({ name: pod.name, address: of(pod), client: inside(pod, port) });
      const known = { servers, allows };
      // A socket each: from one that has a flow to a backend already, the Service can't go there.
      const own = ASKING.first + (asked++ % ASKING.count);
      return [...sendAll(from(0), pods.map(of), known), sendToService(from(own), world, known)];
    });
    await collect([...servers.values()], tries);
    const wrong = tries.filter(isWrong);
    return {
      tried: tries.length,
      allowed: tries.filter(({ may }) => may.length > 0).length,
      wrong: wrong.map(({ name, must, arrived }) => {
        if (arrived.length === 0) return `${name} is allowed, and did not arrive`;
        return `${name} arrived${must ? ' elsewhere' : ''}, and is denied`;
      }),
    };
  } finally {
    for (const fd of open) sockets.closeSocket(fd);
  }
}

function isWrong({ may, must, arrived }: Try): boolean {
  return (must && arrived.length === 0) || arrived.length > 1 || arrived.some((at) => !may.includes(at));
}

type Sender = { readonly name: string; readonly address: Address; readonly client: number };
type Known = { readonly servers: ReadonlyMap<string, number>; readonly allows: Judge };

function sendAll(from: Sender, addresses: readonly Address[], { servers, allows }: Known): readonly Try[] {
  return addresses
    .filter((to) => to !== from.address)
    .flatMap((to) =>
      TRIED_PORTS.map((port) => {
        const must = allows({ from: from.address, to, protocol: UDP, port });
        return send(from, { address: to, port }, { may: must ? [servers.get(nameOf(to, port)) ?? -1] : [], must });
      }),
    );
}

/** One of those behind it hears it where policy lets it in there, as it always does himself; certainly, where all of them would. */
function sendToService(from: Sender, world: KillWorld, { servers, allows }: Known): Try {
  const { addresses, port } = behind(world);
  const backends = addresses.filter((each) => each.family === from.address.family);
  const isHimself = (to: Address): boolean => formatAddress(to) === formatAddress(from.address);
  const open = backends.filter((to) => isHimself(to) || allows({ from: from.address, to, protocol: UDP, port }));
  const may = open.flatMap((to) => servers.get(nameOf(to, port)) ?? []);
  const must = backends.length > 0 && may.length === backends.length;
  return send(from, { address: changingAddress(from.address.family), port: ASKED_PORT }, { may, must });
}

function send(from: Sender, to: sockets.Peer, expected: Pick<Try, 'may' | 'must'>): Try {
  const name = `${from.name} to ${formatAddress(to.address)} port ${to.port}`;
  sockets.sendSocket(from.client, Buffer.from(name), to);
  return { name, ...expected, arrived: [] };
}

function nameOf(address: Address, port: number): string {
  return `${formatAddress(address)}#${port}`;
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
        byName.get(buffer.toString('utf8', 0, got.bytes))?.arrived.push(server);
        got = sockets.receiveSocket(server, buffer);
      }
    }
    if (!complete && tries.every(({ must, arrived }) => arrived.length > 0 || !must)) {
      complete = true;
      endMs = performance.now() + AFTER_MS;
    }
    await pause(2);
  }
}

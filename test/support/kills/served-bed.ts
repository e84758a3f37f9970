// A node whose agent is killed between the writes of a change of Services, and looked at there: who hears what is sent
// to them, and whether what is open goes on.
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import * as sockets from '#kernel/sockets.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { TCP, UDP } from '#net/protocol.ts';
import { type Ends, speaks } from '../holder.ts';
import { type BedPod, waitFor } from '../pod-bed.ts';
import type { AgentLife, Surroundings } from './agent-process.ts';
import {
  ASKED_PORT,
  addressOf,
  LISTENED,
  type Moment,
  type Server,
  type ServiceChange,
  type ServiceName,
  servedWorld,
} from './half-services.ts';
import { askForHalt, askNoMore, type Halt, isHalted } from './halting-state.ts';
import { SegmentTap, segmentText } from './segment-tap.ts';
import { StillBed, until } from './still-bed.ts';

/** Numbers of pods that no other of the bed has. */
const FIRST_NUMBER = 20;
/** New flows at each look, of each protocol to each Service: that all take one of two ways by chance happens to no test. */
const TRIES = 12;
const LIMIT_MS = 2000;
/** What passes arrives within a few milliseconds. */
const AFTER_MS = 40;
const KEPT = 4;
const FLOWS = 6;
const PATIENCE_MS = 1000;

type Try = {
  readonly name: string;
  readonly protocol: number;
  readonly from: Address;
  readonly sourcePort: number;
  /** Where it may arrive. `must`: it arrives there. */
  readonly may: ReadonlySet<string>;
  readonly must: boolean;
  readonly arrived: string[];
};

/** A flow of datagrams to a Service, and who answered it first. */
type Flow = { readonly client: number; readonly own: string };

/** By whose tables packets go: those of one moment, or of either, some by these and some by those. */
type Stage = readonly [Moment] | readonly [Moment, Moment];

export class ServedBed {
  readonly #still: StillBed;
  readonly #change: ServiceChange;
  readonly #pods: ReadonlyMap<Server, BedPod>;
  readonly #taps: ReadonlyMap<Server, SegmentTap>;
  /** Where datagrams are answered, by name. */
  readonly #servers = new Map<string, number>();
  readonly #open: number[] = [];
  #kept: readonly Ends[] = [];
  /** Does not speak until the end. */
  #silent: readonly Ends[] = [];
  #flows: readonly Flow[] = [];
  #life: AgentLife | null = null;
  #port = 20_000;
  #count = 0;

  constructor(name: string, change: ServiceChange) {
    this.#still = new StillBed(name);
    this.#change = change;
    const { bed } = this.#still;
    const far = (['far', 'farther', 'stranger'] as const).map(
      (name, at) => [name, bed.add(FIRST_NUMBER + at)] as const,
    );
    for (const [, pod] of far) bed.raise(pod);
    this.#pods = new Map<Server, BedPod>([['local', bed.pod(1)], ['shut', bed.pod(2)], ...far]);
    this.#taps = new Map([...this.#pods].map(([server, pod]) => [server, new SegmentTap(pod)]));
    for (const [server, pod] of this.#pods) {
      for (const port of LISTENED) {
        const fd = this.#inside(pod, 'datagram');
        sockets.bindSocket(fd, pod.v4, port);
        this.#servers.set(`${server} ${port}`, fd);
      }
    }
  }

  /** An agent comes up, and connections are opened through the Service: also where the change is that it comes. */
  async start(): Promise<void> {
    const { before, after } = this.#change;
    const first = before.main === null ? after : before;
    this.#life = await this.#still.start(this.#world(first));
    const ends = Array.from({ length: KEPT * 2 }, () => this.#connect(first));
    this.#kept = ends.slice(0, KEPT);
    this.#silent = ends.slice(KEPT);
    await this.#look([first]);
  }

  /** The change comes, and the agent is killed after so many writes of it. False where it has no more writes than that. */
  async stopAtWrite(times: number): Promise<boolean> {
    const { before, after } = this.#change;
    const life = this.#life;
    assert.ok(life);
    this.#still.cluster.publish(this.#world(before));
    await life.reached(this.#still.cluster.revision);
    await this.#look([before]);
    this.#begin(before);
    askForHalt(this.#still.folder, { call: 'write', times });
    this.#still.cluster.publish(this.#world(after));
    let isOver = false;
    const reached = life.reached(this.#still.cluster.revision).then(() => {
      isOver = true;
    });
    // It does not, where it is killed.
    reached.catch(() => undefined);
    await until('the halt, or the change', () => isOver || isHalted(this.#still.folder), 30_000);
    const isStopped = isHalted(this.#still.folder);
    if (!isStopped) askNoMore(this.#still.folder);
    await this.#look(isStopped ? [before, after] : [after]);
    if (!isStopped) return false;
    await life.kill();
    await this.#look([before, after]);
    return true;
  }

  /** Another agent comes, and is killed at this place. */
  async stopTakeover(halt: Halt, surroundings: Surroundings): Promise<void> {
    const { before, after } = this.#change;
    askForHalt(this.#still.folder, halt);
    const life = this.#still.spawn({}, surroundings);
    // It ends before it has come up.
    this.#still.bringUp(life).catch(() => undefined);
    await until('the halt', () => isHalted(this.#still.folder), 30_000);
    await this.#look([before, after]);
    await life.kill();
    await this.#look([before, after]);
  }

  /** An agent comes, and all is as after the change. */
  async next(): Promise<void> {
    this.#life = await this.#still.live();
    await this.#look([this.#change.after]);
  }

  /** What was silent all the while speaks. */
  wake(): void {
    for (const [at, ends] of this.#silent.entries()) assert.ok(speaks(ends), `the silent connection ${at}`);
  }

  async destroy(): Promise<void> {
    this.#end();
    for (const tap of this.#taps.values()) tap.close();
    for (const fd of this.#open) sockets.closeSocket(fd);
    for (const [server, pod] of this.#pods) if (server !== 'local' && server !== 'shut') this.#still.bed.remove(pod);
    await this.#still.destroy();
  }

  #world(moment: Moment): ReturnType<typeof servedWorld> {
    return servedWorld(moment, new Map([...this.#pods].map(([server, { v4 }]) => [server, v4])));
  }

  #inside(pod: BedPod, kind: sockets.SocketKind): number {
    const fd = sockets.inNetns(pod.netns, () => sockets.openSocket(4, kind));
    this.#open.push(fd);
    return fd;
  }

  #close(fd: number): void {
    this.#open.splice(this.#open.indexOf(fd), 1);
    sockets.closeSocket(fd);
  }

  /** A TCP connection from the first pod to whoever is behind the Service. */
  #connect(moment: Moment): Ends {
    const { main } = moment;
    assert.ok(main);
    const listeners = main.by.map((server) => {
      const pod = this.#pods.get(server);
      assert.ok(pod);
      const fd = this.#inside(pod, 'stream');
      sockets.reuseAddress(fd);
      sockets.bindSocket(fd, pod.v4, main.port);
      sockets.listenSocket(fd, 1);
      return fd;
    });
    const client = this.#inside(this.#still.bed.pod(0), 'stream');
    sockets.connectSocket(client, addressOf('main'), ASKED_PORT);
    let server: number | null = null;
    waitFor(() => {
      for (const listener of listeners) server ??= sockets.acceptSocket(listener);
      return server !== null;
    }, LIMIT_MS);
    for (const listener of listeners) this.#close(listener);
    assert.ok(server !== null, 'the connection opens');
    this.#open.push(server);
    return { client, server };
  }

  /** Flows of datagrams of before the change, each at its own backend. */
  #begin(before: Moment): void {
    this.#end();
    if (before.main === null) return;
    this.#flows = Array.from({ length: FLOWS }, () => {
      const client = this.#inside(this.#still.bed.pod(0), 'datagram');
      sockets.connectSocket(client, addressOf('main'), ASKED_PORT);
      const own = this.#ask(client);
      assert.ok(own !== null && names('main', before).has(own), `a flow begins, at ${own}`);
      return { client, own };
    });
  }

  #end(): void {
    for (const { client } of this.#flows) this.#close(client);
    this.#flows = [];
  }

  /** Sends a datagram of a flow; who heard and answered it so that its client heard that; null where nobody. */
  #ask(client: number): string | null {
    const message = Buffer.from(`flow ${this.#count++}`);
    const buffer = Buffer.alloc(64);
    let found: string | null = null;
    sockets.sendSocket(client, message, null);
    const heard = (): boolean => {
      for (const [name, server] of this.#servers) {
        for (;;) {
          const { got, from } = sockets.receiveFrom(server, buffer);
          if (got.kind !== 'done') break;
          if (from === null || !buffer.subarray(0, got.bytes).equals(message)) continue;
          found = name;
          sockets.sendSocket(server, message, from);
        }
      }
      return found !== null;
    };
    if (!waitFor(heard, PATIENCE_MS)) return null;
    const answered = (): boolean => {
      const got = sockets.receiveSocket(client, buffer);
      return got.kind === 'done' && buffer.subarray(0, got.bytes).equals(message);
    };
    return waitFor(answered, PATIENCE_MS) ? found : null;
  }

  async #look(stage: Stage): Promise<void> {
    assert.ok(this.#still.enforces() && this.#still.speaks(), 'what is not concerned');
    for (const [at, ends] of this.#kept.entries()) assert.ok(speaks(ends), `the connection ${at} by the Service`);
    this.#lookAtFlows(stage);
    await this.#lookAtNew(stage);
  }

  /**
   * A flow stays with its backend while that serves: until the next agent, whose tables may name another one for it
   * (docs/services.md). It is lost only where the Service itself is.
   */
  #lookAtFlows(stage: Stage): void {
    const may = namesAt('main', stage);
    const isGone = stage.some(({ main }) => main === null);
    for (const { client, own } of this.#flows) {
      const stays = stage.length === 2 && stage.every((moment) => names('main', moment).has(own));
      if (isGone && may.size === 0) continue;
      const by = this.#ask(client);
      if (by === null) assert.ok(isGone, `the flow of ${own} is lost`);
      else assert.ok(may.has(by) && (!stays || this.#life === null || by === own), `the flow of ${own} is at ${by}`);
    }
  }

  async #lookAtNew(stage: Stage): Promise<void> {
    for (const tap of this.#taps.values()) tap.heard();
    const { bed } = this.#still;
    const fds: number[] = [];
    const tries: Try[] = [];
    const from = (pod: BedPod, service: ServiceName, isDenied: boolean): void => {
      for (let turn = 0; turn < TRIES; turn++) {
        for (const protocol of [TCP, UDP]) {
          const sourcePort = this.#port++;
          const fd = sockets.inNetns(pod.netns, () => sockets.openSocket(4, protocol === TCP ? 'stream' : 'datagram'));
          fds.push(fd);
          sockets.bindSocket(fd, pod.v4, sourcePort);
          sockets.connectSocket(fd, addressOf(service), ASKED_PORT);
          if (protocol === UDP) sockets.sendSocket(fd, Buffer.from('new'), null);
          const may = isDenied ? new Set<string>() : reachable(namesAt(service, stage));
          const must = !isDenied && service === 'main' && stage.every((moment) => moment.main !== null);
          const name = `${protocol === TCP ? 'TCP' : 'UDP'} from ${pod.name} port ${sourcePort} to ${service}`;
          tries.push({ name, protocol, from: pod.v4, sourcePort, may, must, arrived: [] });
        }
      }
    };
    from(bed.pod(0), 'main', false);
    from(bed.pod(0), 'mixed', false);
    from(bed.pod(2), 'main', true);
    try {
      await this.#collect(tries);
    } finally {
      for (const fd of fds) sockets.closeSocket(fd);
    }
    const wrong = tries.filter(
      ({ may, must, arrived }) => (must && arrived.length === 0) || arrived.some((at) => !may.has(at)),
    );
    assert.deepEqual(
      wrong.map(({ name, may, arrived }) => `${name}: at [${arrived.join()}], not at [${[...may].join()}]`),
      [],
    );
  }

  async #collect(tries: readonly Try[]): Promise<void> {
    const key = (protocol: number, from: Address, port: number): string => `${protocol} ${formatAddress(from)} ${port}`;
    const byEnd = new Map(tries.map((one) => [key(one.protocol, one.from, one.sourcePort), one]));
    const strays: string[] = [];
    let endMs = performance.now() + LIMIT_MS;
    for (let complete = false; performance.now() < endMs; await pause(2)) {
      for (const [server, tap] of this.#taps) {
        for (const segment of tap.heard()) {
          const one = byEnd.get(key(segment.protocol, segment.from, segment.sourcePort));
          if (one !== undefined) one.arrived.push(`${server} ${segment.destinationPort}`);
          else if (segment.sourcePort >= 20_000 && segment.sourcePort < 30_000) strays.push(segmentText(segment));
        }
      }
      if (!complete && tries.every(({ must, arrived }) => arrived.length > 0 || !must)) {
        complete = true;
        endMs = performance.now() + AFTER_MS;
      }
    }
    assert.deepEqual(strays, [], 'nobody sent these');
  }
}

/** Who is behind a Service, as `server port`. */
function names(service: ServiceName, moment: Moment): ReadonlySet<string> {
  const served = moment[service];
  return new Set(served?.by.map((server) => `${server} ${served.port}`) ?? []);
}

function namesAt(service: ServiceName, stage: Stage): ReadonlySet<string> {
  return new Set(stage.flatMap((moment) => [...names(service, moment)]));
}

function reachable(all: ReadonlySet<string>): ReadonlySet<string> {
  return new Set([...all].filter((name) => !name.startsWith('shut ')));
}

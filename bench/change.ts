// How long a change takes to reach packets: from the write of its event to the agent's socket to the first packet judged
// by it, at the load of the bars. Part of `make bench`; needs root. One JSON line a figure on standard output.
// CHANGES=N turns (120); LOAD=usual, full or, if named, million.
import { UDP } from '#net/protocol.ts';
import type { Flow } from '#policy/verdict.ts';
import type { WorldEvent } from '#policy/world.ts';
import { SharedSockets } from '#sandbox/shared-sockets.ts';
import { PacketStream } from '#sandbox/stream.ts';
import { type Bar, type Figures, measureLoads } from './figure.ts';
import { FULL, Load, MILLION, namespaceEvent, podEvent, policyEvent, USUAL } from './load.ts';
import { BenchNode } from './node.ts';
import { quantile } from './slots.ts';

/** Of each kind one change or two. Of fewer than a hundred the 99th percentile would be the worst. */
const TURNS = Number(process.env.CHANGES ?? 120);
const LOADS = { usual: USUAL, full: FULL, million: MILLION } as const;
const LIMIT_MS = 3000;
const PORT = 5000;
/** The stream sends a packet every millisecond: what it sees is late by that much at most, which its bars allow for. */
const STREAM_MS = 1;

type Kind = { readonly name: string; readonly p50?: number; readonly p99: number };

/** Milliseconds. */
const POLICY = { p50: 3, p99: 10 } as const;
const POD = { p99: 5 } as const;
const NAMESPACE = { p99: 20 } as const;
const SEEN_POLICY = { p50: POLICY.p50 + STREAM_MS, p99: POLICY.p99 + STREAM_MS } as const;
const SEEN_POD = { p99: POD.p99 + STREAM_MS } as const;

class Bench {
  readonly #load: Load;
  readonly #node: BenchNode;
  readonly #stream: PacketStream;
  readonly #times = new Map<Kind, number[]>();

  constructor(load: Load, node: BenchNode, stream: PacketStream) {
    this.#load = load;
    this.#node = node;
    this.#stream = stream;
  }

  async turn(turn: number, kinds: Kinds): Promise<void> {
    const load = this.#load;
    const { key } = load.probePolicy(PORT);
    await this.#seen(kinds.changed, [policyEvent(load.probePolicy(PORT + 1))], 'firstSilent');
    await this.#seen(kinds.changed, [policyEvent(load.probePolicy(PORT))], 'firstAnswered');
    await this.#seen(kinds.removed, [{ kind: 'policy', key, value: null }], 'firstSilent');
    await this.#seen(kinds.added, [policyEvent(load.probePolicy(PORT))], 'firstAnswered');
    const pod = load.localPod(0);
    const other = { ...pod, labels: { ...pod.labels, group: 'other' } };
    await this.#seen(kinds.relabelled, [podEvent(other)], 'firstSilent');
    await this.#seen(kinds.relabelled, [podEvent(pod)], 'firstAnswered');
    await this.#node.change([{ kind: 'pod', key: pod.key, value: null }]);
    await this.#seen(kinds.podAdded, [podEvent(pod)], 'firstAnswered');
    await this.#told(kinds.wide, [policyEvent(load.selectingPolicy((turn * 13) % load.size.selecting, turn + 1))]);
    await this.#told(kinds.remote, [podEvent(load.remotePod((turn * 977) % load.size.pods, turn % 10))]);
    await this.#told(kinds.namespace, [namespaceEvent(load.namespace(turn % 500, (turn + 7) % 20))]);
  }

  figures(figures: Figures, name: string): void {
    for (const [kind, times] of this.#times) {
      for (const [label, share, most] of [
        ['p50', 0.5, kind.p50],
        ['p99', 0.99, kind.p99],
      ] as const) {
        const value = Number(quantile(times, share).toFixed(2));
        const bar: { bar?: Bar } = most === undefined ? {} : { bar: { most } };
        figures.print({
          name: `${kind.name}, ${name}, ${label}`,
          value,
          unit: 'ms',
          baseline: null,
          ratio: null,
          ...bar,
        });
      }
    }
  }

  async #seen(kind: Kind, events: readonly WorldEvent[], next: 'firstSilent' | 'firstAnswered'): Promise<void> {
    const startMs = performance.now();
    const applied = this.#node.change(events);
    const seenMs = await this.#stream[next](startMs, LIMIT_MS);
    await applied;
    if (seenMs === null) throw new Error(`${kind.name}: the change did not meet a packet within ${LIMIT_MS} ms`);
    this.#note(kind, seenMs - startMs);
  }

  async #told(kind: Kind, events: readonly WorldEvent[]): Promise<void> {
    const startMs = performance.now();
    await this.#node.change(events);
    this.#note(kind, performance.now() - startMs);
  }

  #note(kind: Kind, ms: number): void {
    const times = this.#times.get(kind) ?? [];
    times.push(ms);
    this.#times.set(kind, times);
  }
}

const KINDS = {
  changed: { name: 'a policy of all 110 pods changed to first packet', ...SEEN_POLICY },
  removed: { name: 'a policy of all 110 pods removed to first packet', ...SEEN_POLICY },
  added: { name: 'a policy of all 110 pods added to first packet', ...SEEN_POLICY },
  relabelled: { name: 'a local pod relabelled to first packet', ...SEEN_POD },
  podAdded: { name: 'a local pod added to first packet', ...SEEN_POD },
  // Told by the agent, without the stream: what such a change does to packets is the same as what others do.
  remote: { name: 'a pod of another node relabelled, in force', ...POD },
  wide: { name: 'all rules of a policy of all 110 pods changed, in force', ...POLICY },
  namespace: { name: 'a namespace relabelled, in force', ...NAMESPACE },
} as const;

type Kinds = Readonly<Record<keyof typeof KINDS, Kind>>;

async function measure(figures: Figures, name: keyof typeof LOADS): Promise<void> {
  process.stderr.write(`bench: changes at the ${name} load\n`);
  const load = new Load(LOADS[name]);
  const node = await BenchNode.start(`c${name}${process.pid}`, load);
  try {
    const [client, , , , , server] = node.pods;
    const [from, to] = [client?.addresses[0], server?.addresses[0]];
    if (client === undefined || server === undefined || from === undefined || to === undefined)
      throw new Error('no pods');
    await node.change([policyEvent(load.probePolicy(PORT))]);
    const flow: Flow = { from, to, protocol: UDP, port: PORT };
    const ends = { fromNetns: client.netns, toNetns: server.netns, sourcePort: 40_000, intervalMs: STREAM_MS };
    const stream = new PacketStream({ ...ends, flow }, new SharedSockets());
    stream.start();
    await stream.opened();
    const bench = new Bench(load, node, stream);
    for (let turn = 0; turn < TURNS; turn++) await bench.turn(turn, KINDS);
    await stream.close();
    bench.figures(figures, `${name} load`);
  } finally {
    await node.down();
  }
}

await measureLoads(['usual', 'full', 'million'], measure);

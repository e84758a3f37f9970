// The connections that a probe tries: which pairs, from which namespace, and which nodes must speak of each.

import type { FlowEvent } from '#agent/protocol.ts';
import {
  type Probe,
  type ProbeEnd,
  type ProbePort,
  probePairs,
  secondFamilyPairs,
} from '#datapath/reference/simulate.ts';
import { formatAddress } from '#net/address.ts';
import { ICMP, ICMPV6 } from '#net/protocol.ts';
import type { Flow } from '#policy/verdict.ts';
import { SandboxError } from './error.ts';
import { echoPort } from './probe-packets.ts';

/** One end of a probe by packets. */
export type PacketEnd = ProbeEnd & {
  readonly netns: string;
  /** The node whose namespace this end lives in or behind; null for the outside world. */
  readonly node: string | null;
  /** Whether policy judges this end: a pod with an address of its own. */
  readonly endpoint: boolean;
};

type Ask = {
  readonly sources: readonly PacketEnd[];
  readonly destinations: readonly PacketEnd[];
  readonly ports: readonly ProbePort[];
};

/** One connection to try. A node is named where its datapath judges that leg. */
export type Task = {
  readonly index: number;
  readonly probe: Probe;
  readonly port: ProbePort;
  readonly netns: string;
  readonly egressNode: string | null;
  readonly ingressNode: string | null;
  /** The primary family makes the row; where both ends speak the other one too, it is tried beside it. */
  readonly family: 'primary' | 'second';
  attempts: number;
};

/** One task for each connection, rows first. From the outside to the outside is nobody's business here. */
export function makeTasks(ask: Ask): readonly Task[] {
  const sources = endsByName(ask.sources);
  const destinations = endsByName(ask.destinations);
  const primary = probePairs(ask);
  const second = secondFamilyPairs(ask, primary);
  return [...primary, ...second].flatMap((asked, index) => {
    const from = sources.get(asked.from);
    const to = destinations.get(asked.to);
    if (from === undefined || to === undefined)
      throw new SandboxError('probe', 'an end has no namespace', 'report this');
    if (from.node === null && to.node === null) return [];
    const ownNode = !from.endpoint && from.node !== null && from.node === to.node;
    return {
      index,
      probe: { ...asked, flow: ofFamily(asked.flow) },
      port: { protocol: asked.flow.protocol, port: asked.flow.port },
      netns: from.netns,
      egressNode: from.endpoint ? from.node : null,
      ingressNode: to.endpoint && !ownNode ? to.node : null,
      family: index < primary.length ? 'primary' : 'second',
      attempts: 0,
    };
  });
}

function endsByName(ends: readonly PacketEnd[]): ReadonlyMap<string, PacketEnd> {
  return new Map(ends.map((end) => [end.name, end]));
}

/** An echo request has another protocol and type in each family; `ICMP` asks for whichever the pair speaks. */
function ofFamily(flow: Flow): Flow {
  if (flow.protocol !== ICMP && flow.protocol !== ICMPV6) return flow;
  const { family } = flow.from;
  return { ...flow, protocol: family === 4 ? ICMP : ICMPV6, port: echoPort(family) };
}

/** A connection's tuple; `eventKey` gives the same for a packet of it in the initiator's direction. */
export function flowKey(flow: Flow, sourcePort: number): string {
  const { from, to, protocol, port } = flow;
  return `${protocol} ${formatAddress(from)} ${sourcePort} ${formatAddress(to)} ${port}`;
}

export function eventKey(event: FlowEvent): string {
  const { source, sourcePort, destination, destinationPort } = event;
  return `${event.protocol} ${source} ${sourcePort} ${destination} ${destinationPort}`;
}

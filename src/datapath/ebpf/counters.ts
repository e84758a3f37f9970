// The kernel programs' counters, summed over the CPUs.

import { COUNTERS } from '#datapath/ebpf/encode/abi.gen.ts';
import { DROP_REASONS, type DropReason } from '#datapath/port.ts';
import { lookupElement, type MapHandle } from '#kernel/bpf.ts';
import { possibleCpus } from '#kernel/cpus.ts';

/** Packets and events since the maps were made. */
export type Counters = {
  readonly drops: ReadonlyMap<DropReason, bigint>;
  /** What would have been drops: they passed by audit alone. */
  readonly audited: ReadonlyMap<DropReason, bigint>;
  readonly fromPod: bigint;
  readonly toPod: bigint;
  /** Past the host's stack: straight into the neighbour's interface, */
  readonly redirected: bigint;
  /** from a pod to an uplink, */
  readonly routed: bigint;
  /** from an uplink into a pod, */
  readonly delivered: bigint;
  /** and from an uplink to a backend at another node, or back to who asked. */
  readonly forwarded: bigint;
  /** Events that found no room. */
  readonly lost: bigint;
  /** Flows nobody had answered yet, or over already, that gave way to newer ones of the same pod. */
  readonly evicted: bigint;
};

export function readCounters(map: MapHandle): Counters {
  const sum = reader(map);
  return {
    drops: new Map(DROP_REASONS.map((reason, index) => [reason, sum(COUNTERS.drops + 8 * index)])),
    audited: new Map(DROP_REASONS.map((reason, index) => [reason, sum(COUNTERS.audited + 8 * index)])),
    fromPod: sum(COUNTERS.passed),
    toPod: sum(COUNTERS.passed + 8),
    redirected: sum(COUNTERS.redirected),
    routed: sum(COUNTERS.routed),
    delivered: sum(COUNTERS.delivered),
    forwarded: sum(COUNTERS.forwarded),
    lost: sum(COUNTERS.lost),
    evicted: sum(COUNTERS.evicted),
  };
}

/** Events that found no room: all that each poll needs. */
export function readLost(map: MapHandle): bigint {
  return reader(map)(COUNTERS.lost);
}

/** Reads the counters once; the function sums one of them, by its offset. */
function reader(map: MapHandle): (offset: number) => bigint {
  const cpus = possibleCpus();
  const values = Buffer.alloc(COUNTERS.size * cpus);
  lookupElement({ ...map, valueSize: map.valueSize * cpus }, Buffer.alloc(4), values);
  return (offset) => {
    let total = 0n;
    for (let cpu = 0; cpu < cpus; cpu++) total += values.readBigUInt64LE(cpu * COUNTERS.size + offset);
    return total;
  };
}

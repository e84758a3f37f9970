// Frames through the kernel programs without a wire (BPF_PROG_TEST_RUN): for the conformance suite and measurements.
import type { Sender } from '#datapath/conformance/harness.ts';
import type { DatapathEvent } from '#datapath/port.ts';
import { testRun } from '#kernel/bpf.ts';
import type { EbpfDatapath } from './open.ts';

const TCX_NEXT = -1;
const TCX_DROP = 2;
const TCX_REDIRECT = 7;

/** A frame, and where it is met. */
export type Injection = {
  /** With its Ethernet header; at least 34 bytes (IPv4) or 54 (IPv6): the kernel refuses shorter ones here. */
  readonly frame: Uint8Array;
  readonly hook: 'from-pod' | 'to-pod' | 'from-node';
  readonly interfaceIndex: number;
  /** Who sent what is at `to-pod`: by default another pod or machine, by `uplink` where that is said. */
  readonly sender?: Sender;
  readonly uplink?: number;
  readonly mark?: number;
  readonly gsoSize?: number;
};

/** What the hook did. `events`: all that it reported for this frame; `before`: what had been waiting, a sweep's reports too. */
export type Injected = {
  readonly verdict: 'pass' | 'drop' | 'redirect';
  readonly events: readonly DatapathEvent[];
  readonly before: readonly DatapathEvent[];
  /** The frame as it goes on. */
  readonly frame: Uint8Array;
};

const PROGRAMS = { 'from-pod': 'from_pod', 'to-pod': 'to_pod', 'from-node': 'from_node' } as const;
/** An interface that is not the node itself: where forwarded packets seem to come from. */
const ELSEWHERE = 0x7fff_ffff;

/** Runs a hook on one frame. The interface must be in the namespace that this thread is in. */
export function inject(datapath: EbpfDatapath, injection: Injection): Injected {
  const { hook, interfaceIndex } = injection;
  const before = datapath.poll().events;
  const result = testRun(datapath.program(PROGRAMS[hook]), {
    frame: injection.frame,
    interfaceIndex,
    ingressIndex: ingressOf(injection),
    mark: injection.mark ?? 0,
    gsoSize: injection.gsoSize ?? 0,
  });
  return { verdict: verdictOf(result.returned), before, events: datapath.poll().events, frame: result.frame };
}

function ingressOf({ hook, interfaceIndex, sender, uplink }: Injection): number {
  if (hook !== 'to-pod') return interfaceIndex;
  if (typeof sender === 'number') return sender;
  return sender === 'own-node' ? 0 : (uplink ?? ELSEWHERE);
}

/** What a hook's return value means. Throws where it means nothing. */
export function verdictOf(returned: number): Injected['verdict'] {
  if (returned === TCX_NEXT) return 'pass';
  if (returned === TCX_DROP) return 'drop';
  if (returned === TCX_REDIRECT) return 'redirect';
  throw new Error(`a hook returned ${returned}, which is no verdict`);
}

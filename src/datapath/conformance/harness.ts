// What a datapath must offer to be put through the conformance suite. eBPF does it with BPF_PROG_TEST_RUN.
import type { RuleNumber } from '#compile/plan.ts';
import type { Direction } from '#policy/model.ts';
import type { Datapath, DropReason } from '../port.ts';

/**
 * Where a packet that is at a pod's interface came from: this node's own stack (`ingress_ifindex == 0`), the pod whose
 * interface has this index, or an interface that is no pod's.
 */
export type Sender = 'own-node' | 'elsewhere' | number;

/** A frame at one of an interface's hooks. */
export type TestPacket = {
  readonly interfaceIndex: number;
  readonly hook: 'from-pod' | 'to-pod';
  /** Counts at `to-pod` alone. */
  readonly sender: Sender;
  readonly frame: Uint8Array;
};

/** What became of it. Rules are known of drops and of the first packet of a connection. */
export type Judged = {
  readonly verdict: 'pass' | 'drop';
  readonly reason: DropReason;
  readonly leg: Direction | null;
  readonly egressRule: RuleNumber | null;
  readonly ingressRule: RuleNumber | null;
  /** Of a pass by audit alone, where that is told: as `reason` and `leg` of the drop that it would have been. */
  readonly audited: { readonly reason: DropReason; readonly leg: Direction | null } | null;
};

/**
 * What became of it, and the frame as it goes on. `entered`: it is past its receiver's hook already. `answer`: what its sender
 * gets instead, where it is told that nobody takes it.
 */
export type Met = Judged & {
  readonly frame: Uint8Array;
  readonly entered: boolean;
  readonly answer: Uint8Array | null;
};

export type HarnessOptions = {
  /** Room for established TCP connections; null = the usual. */
  readonly establishedLimit: number | null;
  /** Room for flows that nobody answered yet, or that are over; null = the usual. */
  readonly unassuredLimit: number | null;
};

export type Harness = {
  readonly datapath: Datapath;
  /** A fresh interface for a pod; its index. The rig attaches it. */
  addInterface(): number;
  /** `refused`: this datapath can't be given a frame so short (BPF_PROG_TEST_RUN: under 34 bytes, for IPv6 54). */
  inject(packet: TestPacket): Met | 'refused';
  /** Moves the clock, and what is over by then is swept; null where it can't be moved. */
  readonly advance: ((seconds: number) => void) | null;
  /** Moves the clock alone: what is over is still there when its next packet comes. Null as `advance`. */
  readonly moveClock: ((seconds: number) => void) | null;
  /** Runs `meanwhile` between judging the next packet and writing its entry; null where nothing can come between. */
  readonly interleave: ((meanwhile: () => void) => void) | null;
  close(): void;
};

export type Factory = (options: HarnessOptions) => Harness;

// Hooks on pods' interfaces and on uplinks: what both ways of attaching them share.
import { release } from 'node:os';
import { closeObject, loadConstant, queryTcx, type TcxPlace } from '#kernel/bpf.ts';
import { SystemCallError } from '#kernel/sockets.ts';
import { createClsact, destroyClsact } from '#kernel/tc.ts';

/** The kernel programs at hooks: for what a pod sends (ingress of the host's side), what it is sent, what comes by an uplink. */
export type Side = 'from_pod' | 'to_pod' | 'from_node';

export type HookPrograms = Readonly<Record<Side, number>>;

/** Which hooks an interface has, in the order in which they are put there. */
export type Places = readonly (readonly [Side, TcxPlace])[];

/** The side towards the pod first: it is what a new pod is not reached through. */
export const POD_PLACES: Places = [
  ['to_pod', 'egress'],
  ['from_pod', 'ingress'],
];

export const UPLINK_PLACES: Places = [['from_node', 'ingress']];

/** What hooks are made of: one kind of interface, the programs, and where they are pinned. */
export type HookSetup = { readonly places: Places; readonly programs: HookPrograms; readonly directory: string };

/** Whether a hook still stands, and first. */
export type HookHealth = 'first' | 'behind' | 'absent';

/** How hooks stand on an interface; the worse of the two. */
export type HookView = {
  readonly health: HookHealth;
  /** No other program is there: a packet may then skip the interface. */
  readonly alone: boolean;
  /** The hooks outlive this process. */
  readonly pinned: boolean;
};

/** tcx from Linux 6.6, clsact before. */
export type AttachMode = 'tcx' | 'clsact';

/** The hooks of one process. An interface that is gone has none, which is no error. */
export type Hooks = {
  /** Puts the hooks on an interface, or gives those that an earlier process left there this one's programs. */
  attach(interfaceIndex: number): void;
  /** Whether an earlier process's hooks stand on both sides of this very interface. */
  stands(interfaceIndex: number): boolean;
  detach(interfaceIndex: number): void;
  /** `isPinned` says of a path of a pin whether there is one: who looks at many interfaces lists them once. */
  look(interfaceIndex: number, isPinned?: (path: string) => boolean): HookView;
  /** Puts back what is missing, first, and pinned. Throws SystemCallError; the interface lets nothing through that it did not before. */
  repair(interfaceIndex: number): void;
  /** After a takeover: interfaces that are gone are forgotten, those not named get this process's programs, which deny there. */
  forgetGone(): void;
  close(): void;
};

/** Hooks that can be put on a new interface without waiting for the kernel. */
export type StagedHooks = Hooks & {
  /** As `attach`, at once: what is there judges the same, and is to become what `attach` makes when there is time. */
  attachNew(interfaceIndex: number): void;
  /** Interfaces for which `attach` is still to come. */
  readonly early: ReadonlySet<number>;
};

const TC_ACT_SHOT = 2;

/** Gives `work` a program that drops everything: it holds a place for the moment in which a hook moves there. */
export function withShut(work: (program: number) => void): void {
  const program = loadConstant(TC_ACT_SHOT);
  try {
    work(program);
  } finally {
    closeObject(program);
  }
}

/** The worst of the two sides' healths. */
export function worst(found: readonly HookHealth[]): HookHealth {
  return found.find((each) => each === 'absent') ?? found.find((each) => each === 'behind') ?? 'first';
}

/** Ids of the tcx programs at a place; none where the interface is gone. */
export function programsAt(interfaceIndex: number, place: TcxPlace): readonly number[] {
  try {
    return queryTcx(interfaceIndex, place);
  } catch (error) {
    if (error instanceof SystemCallError && error.code === 'ENODEV') return [];
    throw error;
  }
}

/** The loopback interface has this number in every network namespace. */
const LOOPBACK = 1;

/** True where the kernel knows tcx. */
export function hasTcx(): boolean {
  try {
    queryTcx(LOOPBACK, 'ingress');
    return true;
  } catch (error) {
    if (error instanceof SystemCallError && error.code === 'EINVAL') return false;
    throw error;
  }
}

/** How hooks are attached on this kernel. Throws Error with what it lacks, in one sentence. */
export function chooseMode(forced?: AttachMode): AttachMode {
  if (forced === 'tcx' && !hasTcx())
    throw new Error(`this kernel (Linux ${release()}) has no tcx, which came with 6.6`);
  if (forced === 'tcx' || (forced === undefined && hasTcx())) return 'tcx';
  tryClsact();
  return 'clsact';
}

function tryClsact(): void {
  try {
    if (createClsact(LOOPBACK)) destroyClsact(LOOPBACK);
  } catch (cause) {
    const lacks = `this kernel (Linux ${release()}) can attach programs neither by tcx nor by clsact`;
    throw new Error(`${lacks}: it needs the module sch_ingress`, { cause });
  }
}

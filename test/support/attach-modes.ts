// The ways of attaching hooks that tests go through: all that this kernel has.
import { type AttachMode, hasTcx } from '#datapath/ebpf/hooks.ts';

/** Both, where there is no root to ask the kernel with: the tests then say that root is missing. */
export const ATTACH_MODES: readonly AttachMode[] =
  process.geteuid?.() !== 0 || hasTcx() ? ['tcx', 'clsact'] : ['clsact'];

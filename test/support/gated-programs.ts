// The kernel programs with a gate, built aside: a packet that comes to it stands there until user space opens it, so that
// a change falls into a moment that is else some nanoseconds long.
import { type ProgramFault, withFaultyPrograms } from './faulty-programs.ts';

/** Where a gate is; the number is what it is shut with. */
export const PLACE = {
  /** Both legs are judged, and nothing is written yet. */
  judged: 1,
  /** The class of the peer was looked up, and nothing is read of it yet. */
  found: 2,
  /** The same; the look-up goes astray, as one does that holds an element while it is used again for another key. */
  missed: 3,
  /** Every hook has programs that look into both versions' connections, and none is carried over yet. */
  uncarried: 4,
  /** What one earlier version's tables hold was carried over, and hooks are still as they were. */
  carried: 5,
} as const;

export type Place = keyof typeof PLACE;

/** What the gate's word says besides the number of a place where it is shut; 0 = open. */
export const GATE = { stands: 0x100, late: 0x200 } as const;
export const GATE_MAP = 'gate_map';

/** How long a packet stands at most. The kernel complains of a CPU that is held for 20 seconds. */
const LIMIT = '5 * SECOND';

/** The gate lets packets through but the first one to come after it was shut. Returns 1 to that one. */
const CODE = `MAP(BPF_MAP_TYPE_ARRAY, ${GATE_MAP}, __u32, __u64, 1, BPF_F_MMAPABLE);

struct wait {
	__u64 place;
	__u64 end;
	__u64 over;
};

static __always_inline volatile __u64 *the_gate(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&${GATE_MAP}, &zero);
}

static long look_at_gate(__u32 index, void *ctx)
{
	volatile __u64 *gate = the_gate();
	struct wait *wait = ctx;

	(void)index;
	if (!gate || *gate != (wait->place | ${GATE.stands})) {
		wait->over = 1;
	} else if (bpf_ktime_get_ns() > wait->end) {
		*gate = wait->place | ${GATE.late};
		wait->over = 1;
	}
	return wait->over;
}

static long stand_at_gate(__u32 index, void *ctx)
{
	struct wait *wait = ctx;

	(void)index;
	bpf_loop(1 << 20, look_at_gate, ctx, 0);
	return wait->over;
}

__attribute__((noinline)) int come_to_gate(__u32 place)
{
	struct wait wait = {.place = place};
	volatile __u64 *gate = the_gate();

	if (!gate || *gate != place)
		return 0;
	*gate = place | ${GATE.stands};
	wait.end = bpf_ktime_get_ns() + ${LIMIT};
	bpf_loop(1 << 20, stand_at_gate, &wait, 0);
	return 1;
}

`;

const GATES: readonly ProgramFault[] = [
  { file: 'maps.h', from: '/* Knobs. Times are nanoseconds. */', to: `${CODE}/* Knobs. Times are nanoseconds. */` },
  {
    file: 'legs.h',
    from: '\tc->reason[LEG_EGRESS] = egress;',
    to: `\tcome_to_gate(${PLACE.judged});\n\tc->reason[LEG_EGRESS] = egress;`,
  },
  {
    file: 'policy.h',
    from: '\t\tstruct tagged *word = bpf_map_lookup_elem(&class_map, &key), found;\n',
    to: `\t\tstruct tagged *word = bpf_map_lookup_elem(&class_map, &key), found;

\t\tcome_to_gate(${PLACE.found});
\t\tif (come_to_gate(${PLACE.missed}))
\t\t\tword = 0;
`,
  },
  {
    file: 'moat.bpf.c',
    from: '\tif (!earlier || !state)\n\t\treturn 0;\n',
    to: `\tif (!earlier || !state)\n\t\treturn 0;\n\tcome_to_gate(${PLACE.uncarried});\n`,
  },
  {
    file: 'moat.bpf.c',
    from: '\treturn carry.refused;',
    to: `\tcome_to_gate(${PLACE.carried});\n\treturn carry.refused;`,
  },
];

/** As withFaultyPrograms(). The faults are planted first. */
export function withGatedPrograms<T>(faults: readonly ProgramFault[], use: (object: string) => T): T {
  return withFaultyPrograms([...faults, ...GATES], use);
}

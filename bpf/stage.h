/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* An entry's stage: one word of its element, with its verdicts, flags and TCP stage, which only ever moves by
 * an exchange for what was read before. A part of the key's tag is in it, so that no element is moved that is
 * another flow's by now. */
#ifndef MOAT_STAGE_H
#define MOAT_STAGE_H

#include "tag.h"

union stage {
	__u64 word;
	struct {
		__u8 verdict[LEG_COUNT];
		__u8 initiator;
		__u8 flags;
		__u8 tcp;
		__u8 tag[3];
	};
};

static __always_inline __u64 *stage_word(struct ct_value *entry)
{
	return (__u64 *)entry->verdict;
}

static __always_inline union stage read_stage(struct ct_value *live)
{
	return (union stage){.word = *(volatile __u64 *)stage_word(live)};
}

static __always_inline int is_stage_of(union stage stage, __u32 tag)
{
	return ((__u32)stage.tag[0] | (__u32)stage.tag[1] << 8 | (__u32)stage.tag[2] << 16) ==
	       (tag & 0xffffff);
}

/* Returns 0 where another CPU was faster. */
static __always_inline int move_stage(struct ct_value *live, union stage before, union stage after)
{
	return __sync_val_compare_and_swap(stage_word(live), before.word, after.word) == before.word;
}

/* Who takes an element away, or puts another in its place, freezes it first: so it happens once, and whoever
 * read it before can't move it any more. Packets may still pass by it. */
static __always_inline int freeze(struct ct_value *live, union stage before)
{
	union stage frozen = before;

	frozen.flags |= ENTRY_FROZEN;
	return !(before.flags & ENTRY_FROZEN) && move_stage(live, before, frozen);
}

static __always_inline void thaw(struct ct_value *live, union stage before)
{
	union stage frozen = before;

	frozen.flags |= ENTRY_FROZEN;
	move_stage(live, frozen, before);
}

/* Takes away what leads a flow's packets from a Service's address to it (translation.h). */
static __noinline int forget_translation(const struct ct_key *key, const struct ct_value *flow,
					 struct ct_key *meant);

/* Takes an element away. Returns 0 where another CPU moved it, or does so itself. `room`: for a key, which
 * the stack has none for. */
static __always_inline int remove_entry(const struct ct_key *key, struct ct_value *live, union stage before,
					struct ct_key *room)
{
	if (!freeze(live, before))
		return 0;
	if (before.flags & ENTRY_SERVICE)
		forget_translation(key, live, room);
	if (!bpf_map_delete_elem(&ct_map, key))
		return 1;
	thaw(live, before);
	return 0;
}

#endif

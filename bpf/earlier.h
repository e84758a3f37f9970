/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Connections in the tables of an agent whose layout was another one: while this one's programs take over
 * hook by hook, they look there, too, and never write there. Which bytes mean what, user space found out from
 * those tables' own types; the verifier knows the moves as constants, and takes all of this away where
 * nothing is earlier. */
#ifndef MOAT_EARLIER_H
#define MOAT_EARLIER_H

#include "context.h"

/* Through volatile, or the compiler makes a call of the loop. */
static __always_inline void move_bytes(const volatile struct move *moves, void *into, const void *from)
{
#pragma nounroll
	for (int i = 0; i < EARLIER_MOVES; i++) {
		__u32 length = moves[i].length, source = moves[i].from, target = moves[i].into;
#pragma nounroll
		for (__u32 b = 0; b < EARLIER_BYTES && b < length; b++)
			((volatile __u8 *)into)[target + b] = ((const __u8 *)from)[source + b];
	}
}

/* It is judged again at its next packet, by the rules of now, and has no place in these tables yet. */
static __always_inline void make_unjudged(struct ct_value *entry)
{
	entry->flags &= ~(ENTRY_ASSURED | ENTRY_FROZEN);
	if (entry->verdict[LEG_EGRESS] == VERDICT_ELSEWHERE)
		return;
	for (int leg = 0; leg < LEG_COUNT; leg++)
		entry->leg[leg].epoch = entry->leg[leg].rule = 0;
}

static __always_inline void *look_earlier(const void *key)
{
	void *live = bpf_map_lookup_elem(&earlier_ct_a, key);

	return live ? live : bpf_map_lookup_elem(&earlier_ct_b, key);
}

/*
 * Copies the earlier entry of c->key to c->entry. Returns 1 where there is one, -1 where it did not hold
 * still. Its tag was made by another version's function. So the key is looked up again: if the element is the
 * same one then, with the stamp that was copied, it was this key's all the time.
 */
__attribute__((noinline)) int find_earlier(struct context *c)
{
	void *live;

	c = own_context(c);
	if (!c || !earlier)
		return 0;
	__builtin_memset(c->bytes, 0, sizeof(c->bytes));
	move_bytes(earlier_key, c->bytes, &c->key);
	live = look_earlier(c->bytes);
	if (!live)
		return 0;
	__builtin_memset(&c->entry, 0, sizeof(c->entry));
	move_bytes(earlier_value, &c->entry, live);
	asm volatile("" ::: "memory");
	if (look_earlier(c->bytes) != live || c->entry.head != c->entry.tail ||
	    *(volatile __u64 *)(live + earlier_head) != c->entry.head)
		return -1;
	make_unjudged(&c->entry);
	return 1;
}

#endif

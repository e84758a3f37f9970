/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The node's own numbers, and what they say of the other tables. */
#ifndef MOAT_STATE_H
#define MOAT_STATE_H

#include "node_maps.h"

/* Look-ups that find another key's value are made again. */
#define ATTEMPTS 3

static __always_inline struct state *node_state(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&state_map, &zero);
}

static __always_inline int is_closed(void)
{
	struct state *state = node_state();

	return !state || *(volatile __u64 *)&state->closed;
}

/*
 * A look-up that holds an element while it is taken out and used again for another key ends in a miss, or at
 * a shorter prefix, though its key never left the map. It counts only if no hash changed meanwhile; else it
 * is made again.
 */
static __always_inline int is_quiet(__u64 changes)
{
	struct state *state = node_state();

	asm volatile("" ::: "memory");
	return state && !(changes & 1) && *(volatile __u64 *)&state->changes == changes;
}

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Room for established connections, shared among the node's pods: one that opens all it can must leave some
 * to the others. A pod may hold three times as many as there are free places, so a single greedy one gets
 * three quarters of the table, and n of them leave one place in 3n + 1. */
#ifndef MOAT_SHARE_H
#define MOAT_SHARE_H

#include "context.h"

#define EVERYBODY 0 /* no interface has this number */
#define GREED 3

/* The kernel's own struct, as far as it is read here. */
struct bpf_map {
	__u32 max_entries;
} __attribute__((preserve_access_index));

static __always_inline __s64 *share_of(__u32 who)
{
	__s64 none = 0, *share = bpf_map_lookup_elem(&share_map, &who);

	if (share)
		return share;
	bpf_map_update_elem(&share_map, &who, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&share_map, &who);
}

/* Takes a place for the pod of an interface. Returns 0 where it has too many already. */
static __always_inline int take_share(__u32 who)
{
	__s64 *all = share_of(EVERYBODY), *own = share_of(who);
	__s64 room = ((struct bpf_map *)&ct_tcp)->max_entries;

	if (!all || !own || *own >= GREED * (room - *all))
		return 0;
	__sync_fetch_and_add(all, 1);
	__sync_fetch_and_add(own, 1);
	return 1;
}

static __always_inline void give_share(__u32 who)
{
	__u32 everybody = EVERYBODY;
	__s64 *all = bpf_map_lookup_elem(&share_map, &everybody);
	__s64 *own = bpf_map_lookup_elem(&share_map, &who);

	if (who == EVERYBODY)
		return;
	if (all)
		__sync_fetch_and_add(all, -1);
	if (own)
		__sync_fetch_and_add(own, -1);
}

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Room for flows, shared among the node's pods: one that opens all it can must leave some to the others. A
 * pod may hold three times as many places as are free, an eighth of the table not counted, so a single greedy
 * one gets some two thirds. Several, one after the other, leave that eighth: each pod may have a little of
 * it, whatever the others hold. */
#ifndef MOAT_SHARE_H
#define MOAT_SHARE_H

#include "context.h"

#define GREED 3
/* Of the places for assured flows, datagrams leave some that TCP may still take: their end is only seen by
 * time, and by a sweep. */
#define GREED_DATAGRAMS 1

/* The kernel's own struct, as far as it is read here. */
struct bpf_map {
	__u32 max_entries;
} __attribute__((preserve_access_index));

/* In a section of its own: what is in .rodata is a knob. */
const struct share no_share SEC(".rodata.fresh") = {};

/* Null where there are more interfaces than the map has room for. */
static __always_inline struct share *share_of(__u32 who)
{
	struct share *share = bpf_map_lookup_elem(&share_map, &who);

	if (share)
		return share;
	bpf_map_update_elem(&share_map, &who, &no_share, BPF_NOEXIST);
	return bpf_map_lookup_elem(&share_map, &who);
}

/* Whether who holds `own` of a table may hold one more, while `taken` of it are. */
static __always_inline int may_have_more(__s64 own, __s64 taken, __s64 room, __s64 greed)
{
	return own < greed * (room - taken - (room >> 3)) || own < (room >> 10) + 1;
}

static __always_inline struct share *total_share(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&total_map, &zero);
}

/* How many flows may be assured, and how many of the table's places are for the rest. */
static __always_inline __s64 assured_places(void)
{
	return assured_room ? assured_room : ((struct bpf_map *)&ct_map)->max_entries / 2;
}

static __always_inline __s64 other_places(void)
{
	return (__s64)((struct bpf_map *)&ct_map)->max_entries - assured_places();
}

/* Takes a place among the assured flows for a pod. Returns 0 where it has too many already. */
static __always_inline int take_share(struct share *all, struct share *own, __s64 greed)
{
	__s64 room = assured_places();

	if (!all || !own || all->assured >= room || !may_have_more(own->assured, all->assured, room, greed))
		return 0;
	__sync_fetch_and_add(&all->assured, 1);
	__sync_fetch_and_add(&own->assured, 1);
	return 1;
}

static __always_inline void give_share(struct share *all, struct share *own)
{
	if (all)
		__sync_fetch_and_add(&all->assured, -1);
	if (own)
		__sync_fetch_and_add(&own->assured, -1);
}

static __always_inline void give_share_of(__u32 who)
{
	give_share(total_share(), bpf_map_lookup_elem(&share_map, &who));
}

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which of a pod's unassured flows is the oldest. Each pod has a queue of their keys. A place is given once
 * and given back in order, whether its flow still is unassured or not; so a pod without room gives up its own
 * oldest flow, and nobody else's. Elements of ct_unassured are never more than places, so there is always
 * room for the flow that was given one. */
#ifndef MOAT_QUEUE_H
#define MOAT_QUEUE_H

#include "age.h"
#include "share.h"

#define PLACES_AT_ONCE 2 /* given back for each one taken: a pod whose share has become smaller shrinks */

const struct queue_part no_keys SEC(".rodata.fresh") = {};

static __always_inline __s64 queue_length(const struct share *share)
{
	return *(volatile __s64 *)&share->head - *(volatile __s64 *)&share->tail;
}

/* The keys of the part that a place is in. */
static __always_inline struct queue_part *queue_part(__u32 who, __u32 place)
{
	struct queue_key key = {.ifindex = who, .number = place >> QUEUE_SHIFT};

	return bpf_map_lookup_elem(&queue_map, &key);
}

static __always_inline struct queue_part *make_queue_part(__u32 who, __u32 place)
{
	struct queue_key key = {.ifindex = who, .number = place >> QUEUE_SHIFT};

	bpf_map_update_elem(&queue_map, &key, &no_keys, BPF_NOEXIST);
	return bpf_map_lookup_elem(&queue_map, &key);
}

/* The flow at a place, its key in *key, if it still is there: it may be assured, ended, or have a later
 * place. */
static __always_inline struct ct_value *queued_flow(__u32 who, __u32 place, struct ct_key *key)
{
	struct queue_part *part = queue_part(who, place);
	struct ct_value *flow;

	if (!part)
		return 0;
	*key = part->keys[place & (QUEUE_PART - 1)];
	flow = bpf_map_lookup_elem(&ct_unassured, key);
	return flow && flow->holder == who && flow->place == place ? flow : 0;
}

/* Gives back a pod's oldest place, if that still is `place`, and takes away the flow there. */
static __always_inline void give_place(struct share *all, struct share *own, __u32 who, __s64 place,
				       __u64 now)
{
	struct queue_key part = {.ifindex = who, .number = (__u32)place >> QUEUE_SHIFT};
	struct ct_value *flow;
	struct ct_key key;
	int stale;

	if (__sync_val_compare_and_swap(&own->tail, place, place + 1) != place)
		return;
	flow = queued_flow(who, place, &key);
	stale = flow && is_stale(flow, &key, now);
	if (flow && !bpf_map_delete_elem(&ct_unassured, &key) && !stale) {
		struct counters *counters = node_counters();

		__sync_fetch_and_add(&own->evicted, 1);
		if (counters)
			__sync_fetch_and_add(&counters->evicted, 1);
	}
	if ((place & (QUEUE_PART - 1)) == QUEUE_PART - 1)
		bpf_map_delete_elem(&queue_map, &part);
	__sync_fetch_and_add(&all->tail, 1);
}

/* A place at the end of a pod's queue for the flow of this key; -1 where there is none. */
static __always_inline __s64 take_place(struct share *all, struct share *own, __u32 who,
					const struct ct_key *key, __u64 now)
{
	__s64 room = ((struct bpf_map *)&ct_unassured)->max_entries;
	struct queue_part *part;
	__u32 place;

	for (int i = 0; i < PLACES_AT_ONCE; i++)
		if (queue_length(own) > 0 &&
		    !may_have_more(queue_length(own), queue_length(all), room, GREED))
			give_place(all, own, who, own->tail, now);
	if (queue_length(all) >= room)
		return -1;
	place = __sync_fetch_and_add(&own->head, 1);
	__sync_fetch_and_add(&all->head, 1);
	part = queue_part(who, place);
	if (!part)
		part = make_queue_part(who, place);
	if (!part)
		return -1;
	part->keys[place & (QUEUE_PART - 1)] = *key;
	return place;
}

/* Whether the place was given back already, by as many packets on other CPUs as there is room for. */
static __always_inline int has_lost_place(const struct ct_value *entry, struct share *own)
{
	/* Atomic, so that it is read after the flow was written. */
	return (__s32)(entry->place - (__u32)__sync_fetch_and_add(&own->tail, 0)) < 0;
}

/* Writes a flow that has no place yet, or takes a later one. Returns 0 where it is there now. */
static __always_inline long queue_flow(const struct ct_key *key, struct ct_value *entry, __u64 now,
				       __u64 flags)
{
	struct share *all = total_share(), *own = share_of(entry->holder);
	__s64 place;

	if (!all || !own)
		return -1;
	place = take_place(all, own, entry->holder, key, now);
	if (place < 0)
		return -1;
	entry->place = place;
	if (bpf_map_update_elem(&ct_unassured, key, entry, flags))
		return -1;
	if (!has_lost_place(entry, own))
		return 0;
	/* Nobody would find it there to take it away. */
	bpf_map_delete_elem(&ct_unassured, key);
	return -1;
}

#endif

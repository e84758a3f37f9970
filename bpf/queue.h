/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which of a pod's flows that are not assured is the oldest. Each pod has a queue of their keys. A place is
 * given once and given back in order, whatever its flow has become; so a pod without room gives up its own
 * oldest flow, and nobody else's. Such flows are never more than places, so there is always room for the flow
 * that was given one. */
#ifndef MOAT_QUEUE_H
#define MOAT_QUEUE_H

#include "age.h"
#include "share.h"
#include "stage.h"

#define REMOVE_ATTEMPTS 3
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

/* The flow at a place, its key and stage in *key and *stage, if it still is there: it may be assured, ended,
 * or have a later place. */
static __always_inline struct ct_value *queued_flow(__u32 who, __u32 place, struct ct_key *key,
						    union stage *stage)
{
	struct queue_part *part = queue_part(who, place);
	struct ct_value *flow;

	if (!part)
		return 0;
	*key = part->keys[place & (QUEUE_PART - 1)];
	flow = bpf_map_lookup_elem(&ct_map, key);
	if (!flow || flow->holder != who || flow->place != place)
		return 0;
	*stage = read_stage(flow);
	return !(stage->flags & ENTRY_ASSURED) && is_stage_of(*stage, ct_tag(key)) ? flow : 0;
}

/* Another CPU may move the flow meanwhile: a few times at most in all its life. */
static __always_inline int remove_queued(const struct ct_key *key, struct ct_value *flow, union stage stage,
					 struct ct_key *room)
{
	for (int attempt = 0; attempt < REMOVE_ATTEMPTS; attempt++) {
		if (stage.flags & (ENTRY_ASSURED | ENTRY_FROZEN))
			return 0;
		if (remove_entry(key, flow, stage, room))
			return 1;
		stage = read_stage(flow);
	}
	return 0;
}

/* Gives back a pod's oldest place, if that still is `place`, and takes away the flow there; of the count of
 * all places it is for the caller to take it. `key`: room for its key and another one. Returns how many were
 * given. */
static __always_inline int give_place(struct share *own, __u32 who, __s64 place, struct ct_key *key,
				      __u64 now)
{
	struct queue_key part = {.ifindex = who, .number = (__u32)place >> QUEUE_SHIFT};
	struct ct_value *flow;
	union stage stage;
	int stale;

	if (__sync_val_compare_and_swap(&own->tail, place, place + 1) != place)
		return 0;
	flow = queued_flow(who, place, key, &stage);
	stale = flow && is_stale(flow, key, now);
	if (flow && remove_queued(key, flow, stage, key + 1) && !stale) {
		struct counters *counters = node_counters();

		if (counters)
			__sync_fetch_and_add(&counters->evicted, 1);
	}
	if ((place & (QUEUE_PART - 1)) == QUEUE_PART - 1)
		bpf_map_delete_elem(&queue_map, &part);
	return 1;
}

/* A place at the end of a pod's queue for the flow of this key; -1 where there is none. `gone`: room for the
 * key of a flow that gives way. */
static __always_inline __s64 take_place(struct share *all, struct share *own, __u32 who,
					const struct ct_key *key, struct ct_key *gone, __u64 now)
{
	__s64 room = other_places();
	struct queue_part *part;
	int given = 0;
	__u32 place;

#pragma nounroll
	for (int i = 0; i < PLACES_AT_ONCE; i++)
		if (queue_length(own) > 0 &&
		    !may_have_more(queue_length(own), queue_length(all) - given, room, GREED))
			given += give_place(own, who, own->tail, gone, now);
	/* One given for one taken leaves the count of all as it is. */
	if (given > 1)
		__sync_fetch_and_add(&all->tail, given);
	if (given != 1 && queue_length(all) >= room)
		return -1;
	place = __sync_fetch_and_add(&own->head, 1);
	if (given != 1)
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
static __always_inline int has_lost_place(__u32 place, struct share *own)
{
	/* Atomic, so that it is read after the flow was written. */
	return (__s32)(place - (__u32)__sync_fetch_and_add(&own->tail, 0)) < 0;
}

/* Whether a flow whose place this is will go no earlier than with a new one of a queue that is twice as full:
 * half of the queue is before it. */
static __always_inline int is_late(__u32 place, const struct share *own)
{
	return 2 * (__u64)((__u32)own->head - place) <= (__u64)queue_length(own);
}

/* The place of a flow that never had one. */
static __always_inline __u32 no_place(struct share *own)
{
	return own ? (__u32)own->tail - 1 : 0;
}

/* Nobody would find it in the queue to take it away. */
static __always_inline void remove_lost(const struct ct_key *key, __u32 tag, struct ct_key *room)
{
	struct ct_value *live = bpf_map_lookup_elem(&ct_map, key);
	union stage stage;

	if (!live)
		return;
	stage = read_stage(live);
	if (is_stage_of(stage, tag) && !(stage.flags & ENTRY_ASSURED))
		remove_entry(key, live, stage, room);
}

#endif

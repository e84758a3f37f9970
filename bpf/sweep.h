/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What user space has swept now and then: room that expired flows and pods of the past hold, and drops that
 * wait for an event. */
#ifndef MOAT_SWEEP_H
#define MOAT_SWEEP_H

#include "related.h"

#define SHRINK_AT_ONCE 4096

struct sweep {
	__u64 now;
	__u64 removed;
};

/* A pod that has gone takes its connections along, though nobody closed them. */
static __always_inline int is_left(const struct ct_value *entry, __u64 now)
{
	__u32 holder = entry->holder;

	return (__s64)(now - entry->last_seen) > (__s64)timeout_left &&
	       !bpf_map_lookup_elem(&iface_map, &holder) && !bpf_map_lookup_elem(&uplink_map, &holder);
}

/* Look-ups already take an expired flow for none; this only gives its room back. */
static long sweep_flow(void *map, const void *raw_key, void *raw_entry, void *raw_sweep)
{
	struct ct_value *entry = raw_entry;
	union stage stage = read_stage(entry);
	struct sweep *sweep = raw_sweep;
	__u32 holder = entry->holder;
	struct ct_key room;

	(void)map;
	if (!is_stale(entry, raw_key, sweep->now) && !is_left(entry, sweep->now))
		return 0;
	if (!remove_entry(raw_key, entry, stage, &room))
		return 0;
	if (stage.flags & ENTRY_ASSURED)
		give_share_of(holder);
	sweep->removed++;
	return 0;
}

#define SWEEP_LOOKS 3

/* Whether there is the flow that a translation is for. An element that is being replaced may be missed, or be
 * another's by the time that it is read: several looks must agree that there is none. */
static __always_inline int has_flow(const struct ct_key *meant, const struct translation *translation,
				    const struct ct_key *key, __u32 initiator)
{
	for (int look = 0; look < SWEEP_LOOKS; look++) {
		struct ct_value *flow = bpf_map_lookup_elem(&ct_map, key);

		if (flow && is_meant(flow, initiator, meant, translation->side))
			return 1;
	}
	return 0;
}

/* Its flow went while it was being written. */
static long sweep_translation(void *map, const void *key, void *raw_translation, void *raw_sweep)
{
	struct translation *translation = raw_translation;
	struct ct_key flow_key;
	__u32 initiator;

	(void)map;
	(void)raw_sweep;
	initiator = make_flow_key(key, translation, &flow_key);
	if (!has_flow(key, translation, &flow_key, initiator))
		remove_translation(key, translation);
	return 0;
}

struct shrink {
	struct share *all;
	struct share *own;
	__u64 now;
	__u32 who;
};

/* Gives back the oldest place, if its flow has expired or is there no more. */
static long shrink_queue(__u64 index, void *raw_shrink)
{
	struct shrink *shrink = raw_shrink;
	struct share *all = shrink->all, *own = shrink->own;
	struct ct_value *flow;
	union stage stage;
	struct ct_key key[2];
	__s64 place;

	(void)index;
	if (!all || !own)
		return 1;
	place = own->tail;
	if (queue_length(own) <= 0)
		return 1;
	flow = queued_flow(shrink->who, place, key, &stage);
	if (flow && !is_stale(flow, key, shrink->now))
		return 1;
	if (give_place(own, shrink->who, place, key, shrink->now))
		__sync_fetch_and_add(&all->tail, 1);
	return 0;
}

/* Nobody would have tokens again by its being forgotten. */
static __always_inline int are_budgets_idle(const struct share *share, __u64 now)
{
#pragma unroll
	for (int kind = 0; kind < BUDGET_COUNT; kind++)
		if (now - share->budgets[kind].time <= 2 * SECOND)
			return 0;
	return 1;
}

/* Gives back places that nobody needs, and forgets a pod that has gone and holds nothing. */
static long sweep_share(void *map, const void *raw_key, void *raw_share, void *raw_sweep)
{
	struct share *share = raw_share;
	struct sweep *sweep = raw_sweep;
	struct shrink shrink = {
	    .all = total_share(),
	    .own = share,
	    .now = sweep->now,
	    .who = *(const __u32 *)raw_key,
	};

	bpf_loop(SHRINK_AT_ONCE, shrink_queue, &shrink, 0);
	if (bpf_map_lookup_elem(&iface_map, &shrink.who) || share->assured || queue_length(share))
		return 0;
	if (are_budgets_idle(share, sweep->now)) {
		/* The part of its queue that was begun; no other is left. */
		struct queue_key begun = {.ifindex = shrink.who, .number = (__u32)share->head >> QUEUE_SHIFT};

		bpf_map_delete_elem(&queue_map, &begun);
		bpf_map_delete_elem(map, raw_key);
	}
	return 0;
}

/* Within its window a drop only counts; a record older than two windows is no longer counted in, so it can
 * go. */
static long sweep_drop(void *map, const void *raw_key, void *raw_drop, void *raw_sweep)
{
	const struct drop_key *key = raw_key;
	struct drop_value *drop = raw_drop;
	struct sweep *sweep = raw_sweep;
	__s64 age = sweep->now - drop->since;
	__u32 pending;

	if (age < (__s64)drop_window)
		return 0;
	pending = __sync_lock_test_and_set(&drop->pending, 0);
	if (pending)
		report_drop(key, drop, pending, sweep->now);
	else if (age > 2 * (__s64)drop_window)
		bpf_map_delete_elem(map, key);
	return 0;
}

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What user space has swept now and then: room that expired connections hold, and drops that wait for an
 * event. */
#ifndef MOAT_SWEEP_H
#define MOAT_SWEEP_H

#include "related.h"

struct sweep {
	__u64 now;
	__u64 removed;
};

/* Look-ups already take an expired connection for none; this only gives its room back. */
static long sweep_connection(void *map, const void *raw_key, void *raw_entry, void *raw_sweep)
{
	const struct ct_key *key = raw_key;
	const struct ct_value *entry = raw_entry;
	struct sweep *sweep = raw_sweep;
	__u32 charged = entry->charged;

	if (!is_stale(entry, key->protocol, sweep->now) || bpf_map_delete_elem(map, key))
		return 0;
	give_share(charged);
	sweep->removed++;
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
		report_drop(key, drop, pending);
	else if (age > 2 * (__s64)drop_window)
		bpf_map_delete_elem(map, key);
	return 0;
}

#endif

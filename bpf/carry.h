/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What user space has run once every hook has this layout's programs: connections that have not spoken since
 * are carried over, too. */
#ifndef MOAT_CARRY_H
#define MOAT_CARRY_H

#include "related.h"

struct carry {
	__u64 now;
	__u64 refused;
};

/* A place for an entry that no packet brought. Returns 0 where there is one. */
static __always_inline long place_entry(const struct ct_key *key, const struct ct_value *entry)
{
	if (entry->tcp != TCP_OPEN || (entry->flags & ENTRY_TOMBSTONE))
		return bpf_map_update_elem(&ct_lru, key, entry, BPF_NOEXIST);
	if (!take_share(entry->charged))
		return 1;
	if (!bpf_map_update_elem(&ct_tcp, key, entry, BPF_NOEXIST))
		return 0;
	give_share(entry->charged);
	return 1;
}

static long carry_connection(void *map, const void *raw_key, void *raw_entry, void *raw_carry)
{
	struct carry *carry = raw_carry;
	struct ct_value entry = {};
	struct ct_key key = {};

	(void)map;
	move_bytes(earlier_key_back, &key, raw_key);
	move_bytes(earlier_value, &entry, raw_entry);
	/* Its own packets were faster, or it is over. */
	if (bpf_map_lookup_elem(&ct_tcp, &key) || bpf_map_lookup_elem(&ct_lru, &key) ||
	    is_stale(&entry, key.protocol, carry->now))
		return 0;
	make_unjudged(&entry);
	entry.head = entry.tail = (__u64)bpf_get_prandom_u32() << 32 | ct_tag(&key);
	if (place_entry(&key, &entry))
		carry->refused++;
	return 0;
}

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Services that keep each client with its backend (session affinity): to whom it went last. */
#ifndef MOAT_AFFINITY_H
#define MOAT_AFFINITY_H

#include "state.h"
#include "tag.h"

static __always_inline __u32 affinity_tag(const struct affinity_key *key)
{
	__u32 hash = service_tag(&key->service);

	for (int i = 0; i < 4; i++)
		hash = mix(hash, key->client[i]);
	return hash;
}

/* Copies what is known of a client to `known`. Returns 0 where that is nothing, or longer ago. */
static __always_inline int read_affinity(const struct affinity_key *key, __u64 now, __u32 seconds,
					 struct affinity *known)
{
	struct affinity *live = bpf_map_lookup_elem(&affinity_map, key);

	if (!live)
		return 0;
	*known = *live;
	asm volatile("" ::: "memory");
	/* Signed: another CPU may have read the clock after us. */
	return known->head == known->tail && *(volatile __u64 *)&live->head == known->head &&
	       (__u32)known->head == affinity_tag(key) &&
	       (__s64)(now - known->last) < (__s64)(seconds * SECOND);
}

/* A client goes to this backend from now on, which this hash chose. Where that can't be noted, its next flow
 * goes where it may. `into`: room for what is written. */
static __always_inline void write_affinity(const struct affinity_key *key, struct affinity *into, __u64 now,
					   __u32 hash, __u32 slot, __u32 generation)
{
	__builtin_memset(into, 0, sizeof(*into));
	into->head = into->tail = (__u64)bpf_get_prandom_u32() << 32 | affinity_tag(key);
	into->last = now;
	into->hash = hash;
	into->slot = slot;
	into->generation = generation;
	bpf_map_update_elem(&affinity_map, key, into, BPF_ANY);
}

#endif

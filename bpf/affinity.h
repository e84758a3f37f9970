/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Services that keep each client with its backend (session affinity): to whom it went last. */
#ifndef MOAT_AFFINITY_H
#define MOAT_AFFINITY_H

#include "context.h"
#include "tag.h"

static __always_inline __u32 affinity_tag(const struct affinity_key *key)
{
	__u32 hash = service_tag(&key->service);

	for (int i = 0; i < 4; i++)
		hash = mix(hash, key->client[i]);
	return hash;
}

/* Copies what is known of the packet's client to c->affinity. Returns 0 where that is nothing, or too long
 * ago. */
__attribute__((noinline)) int recall_backend(struct context *c, __u32 seconds)
{
	struct affinity *live;

	c = own_context(c);
	if (!c)
		return 0;
	__builtin_memset(&c->affinity_key, 0, sizeof(c->affinity_key));
	c->affinity_key.service.address = c->packet.destination;
	c->affinity_key.service.port = c->packet.destination_port;
	c->affinity_key.service.protocol = c->packet.protocol;
	__builtin_memcpy(c->affinity_key.client, c->packet.source.w, sizeof(c->affinity_key.client));
	live = bpf_map_lookup_elem(&affinity_map, &c->affinity_key);
	if (!live)
		return 0;
	c->affinity = *live;
	asm volatile("" ::: "memory");
	/* Signed: another CPU may have read the clock after us. */
	return c->affinity.head == c->affinity.tail && *(volatile __u64 *)&live->head == c->affinity.head &&
	       (__u32)c->affinity.head == affinity_tag(&c->affinity_key) &&
	       (__s64)(c->now - c->affinity.last) < (__s64)(seconds * SECOND);
}

/* The client goes to the backend in c->translation from now on, which this hash chose. Where that can't be
 * noted, its next flow goes where it may. */
__attribute__((noinline)) int keep_backend(struct context *c, __u32 hash)
{
	c = own_context(c);
	if (!c)
		return REASON_TABLE_ERROR;
	__builtin_memset(&c->affinity, 0, sizeof(c->affinity));
	c->affinity.head = c->affinity.tail =
	    (__u64)bpf_get_prandom_u32() << 32 | affinity_tag(&c->affinity_key);
	c->affinity.last = c->now;
	c->affinity.hash = hash;
	c->affinity.slot = c->translation.slot;
	c->affinity.generation = c->translation.generation;
	bpf_map_update_elem(&affinity_map, &c->affinity_key, &c->affinity, BPF_ANY);
	return REASON_NONE;
}

#endif

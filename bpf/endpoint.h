/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which local endpoints stand at a packet's two ends. */
#ifndef MOAT_ENDPOINT_H
#define MOAT_ENDPOINT_H

#include "address.h"
#include "tag.h"
#include "context.h"

/*
 * The endpoint of a local address; `ifindex` 0 where the address is not local. Returns a reason only where
 * tables contradict themselves again and again: a recycled hash element shows another key's tag.
 */
static __always_inline int find_endpoint(struct context *c, const struct addr *address, struct endpoint *into)
{
	__u32 tag = addr_tag(address);
	int missed = 0;

	into->ifindex = 0;
	into->flags = 0;
	for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
		struct tagged *word = bpf_map_lookup_elem(&endpoint_map, address), found;
		struct endpoint *record;

		if (!word) {
			if (missed++ || is_quiet(c->changes))
				return REASON_NONE;
			continue;
		}
		found = read_tagged(word);
		if (found.tag != tag)
			continue;
		record = bpf_map_lookup_elem(&endpoint_slots, &found.value);
		if (!record || !record->ifindex)
			return REASON_TABLE_ERROR;
		*into = *record;
		return REASON_NONE;
	}
	return REASON_TABLE_ERROR;
}

static __always_inline int is_ready(const struct endpoint *endpoint)
{
	return endpoint->ifindex && (endpoint->flags & ENDPOINT_READY);
}

/* Whose node an address is: enum node_owner, 0 = no node's. */
static __always_inline __u32 node_owner(const struct addr *address)
{
	struct tagged *word = bpf_map_lookup_elem(&node_map, address), found;

	if (!word)
		return 0;
	found = read_tagged(word);
	return found.tag == addr_tag(address) ? found.value : 0;
}

/* An address of this node. */
static __always_inline int is_node_address(const struct addr *address)
{
	return node_owner(address) == NODE_OWN;
}

/* The MAC of the pod behind an interface. Returns 0 where the interface is not known. */
static __always_inline int find_mac(__u32 ifindex, __u8 mac[6])
{
	__u64 *word = bpf_map_lookup_elem(&iface_map, &ifindex), found;

	if (!word)
		word = bpf_map_lookup_elem(&iface_map, &ifindex);
	if (!word)
		return 0;
	found = *(volatile __u64 *)word;
	if ((__u16)(found >> 48) != (__u16)ifindex)
		return 0;
#pragma unroll
	for (int i = 0; i < 6; i++)
		mac[i] = found >> (8 * i);
	return 1;
}

static __always_inline int mac_equal(const __u8 *a, const __u8 *b)
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3] && a[4] == b[4] && a[5] == b[5];
}

#endif

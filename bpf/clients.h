/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Services that are for some clients alone (loadBalancerSourceRanges): who is one. */
#ifndef MOAT_CLIENTS_H
#define MOAT_CLIENTS_H

#include "context.h"

/* Whether this boundary is above the packet's source. */
static __always_inline int is_above(const struct client_bound *bound, const struct addr *source)
{
	for (int i = 0; i < 4; i++) {
		__u32 word = bpf_ntohl(source->w[i]);

		if (bound->w[i] != word)
			return bound->w[i] > word;
	}
	return 0;
}

/* Whether the packet's source is a client of a Service that is for some alone. `first`: of so many
 * boundaries. */
__attribute__((noinline)) int is_client(struct context *c, __u32 first, __u32 count)
{
	__u32 low = 0, high = count;

	c = own_context(c);
	if (!c)
		return 0;
	for (int i = 0; i < CLIENT_STEPS; i++) {
		__u32 middle, record;
		struct client_bound *bound;

		if (low >= high)
			break;
		middle = low + (high - low) / 2;
		record = first + middle;
		bound = bpf_map_lookup_elem(&service_places, &record);
		if (!bound)
			return 0;
		if (is_above(bound, &c->packet.source))
			high = middle;
		else
			low = middle + 1;
	}
	return low == high && (low & 1);
}

/* As above; true of a Service that is for whoever asks. */
static __always_inline int may_ask(struct context *c, const struct service *service)
{
	__u32 behind = service->places + (service->count + PLACES_RECORD - 1) / PLACES_RECORD;

	return !service->clients || is_client(c, behind, service->clients & ~CLIENTS_NOT_NODE);
}

#endif

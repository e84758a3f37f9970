/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ICMP errors about flows to Services: who is told knows the packet that is quoted. A client knows the
 * Service, a backend itself. */
#ifndef MOAT_QUOTED_H
#define MOAT_QUOTED_H

#include "service.h"

#define ICMP_SUM 2 /* where it stands in the message */

/* Where the quoted transport's sum stands; 0 = not in what is quoted, or there is none. */
static __always_inline __u32 quoted_sum(struct __sk_buff *skb, struct context *c)
{
	const struct packet *inner = &c->inner;
	__u32 at = sum_offset(inner);

	if (!at || at + 2 > c->packet.end || bpf_skb_load_bytes(skb, at, c->bytes, 2))
		return 0;
	return inner->protocol == IPPROTO_UDP && !be16(c->bytes) ? 0 : at;
}

/*
 * Rewrites an end of the quoted packet, the error's own address where `outer_at` says that it is the same
 * one's, and the sums. The error's is over all that is quoted, and each quoted sum makes good for what it is
 * over: an IPv4 header for its address, a transport for its ports and, though they are not in it, for the
 * addresses. Returns 0 where all of it was done.
 */
static __always_inline long change_quoted(struct __sk_buff *skb, struct context *c,
					  const struct end_change *end, __u32 outer_at)
{
	__u32 sum = c->packet.transport + ICMP_SUM, inner_sum = quoted_sum(skb, c), v4;
	__u16 from_port = bpf_htons(end->from_port), to_port = bpf_htons(end->to_port);

	v4 = c->packet.source.family == 4;
	if (change_end(skb, &c->inner, end, inner_sum, 0))
		return -1;
	if (!inner_sum && bpf_l4_csum_replace(skb, sum, from_port, to_port, 2))
		return -1;
	if (v4 && inner_sum && bpf_l4_csum_replace(skb, sum, end->to[0], end->from[0], 4))
		return -1;
	if (!v4 && !inner_sum && change_sum_v6(skb, sum, end->from, end->to, 0))
		return -1;
	if (!outer_at)
		return 0;
	if (v4)
		return bpf_l3_csum_replace(skb, c->packet.network + 10, end->from[0], end->to[0], 4) ||
		       bpf_skb_store_bytes(skb, outer_at, end->to, 4, 0);
	/* ICMPv6's is over the error's own addresses, too. */
	return change_sum_v6(skb, sum, end->from, end->to, 0) ||
	       bpf_skb_store_bytes(skb, outer_at, end->to, 16, 0);
}

/* What enters a client's pod speaks of what it sent, and comes from the Service where it came from the
 * backend. Returns 0 where all of it was done. */
__attribute__((noinline)) int quote_back(struct __sk_buff *skb, struct context *c)
{
	struct end_change end = {};
	struct packet *inner;
	__u32 v4, outer_at = 0;

	c = own_context(c);
	if (!c)
		return -1;
	inner = &c->inner;
	v4 = inner->source.family == 4;
	end.from = inner->destination.w;
	end.to = c->meant_address.w;
	end.from_port = inner->destination_port;
	end.to_port = c->meant_port;
	end.address_at = inner->network + (v4 ? 16 : 24);
	end.port_at = inner->transport + 2;
	if (equal_words(c->packet.source.w, inner->destination.w))
		outer_at = c->packet.network + (v4 ? 12 : 8);
	return change_quoted(skb, c, &end, outer_at) ? -1 : 0;
}

/* What a pod says of a Service's answer may be said of its backend's: whose, its translation knows. */
static __always_inline int may_quote_service(const struct context *c)
{
	__u32 protocol = c->inner.protocol;

	return may_be_service(c) &&
	       (protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP);
}

/* Who answered as the Service, in place of it at both of the packet's quoted ends. Returns 0 where nobody
 * did. */
static __always_inline int recall_quoted(struct context *c)
{
	struct packet *inner = &c->inner;

	c->meant = c->key;
	c->meant_tag = c->key_tag;
	c->meant_side = !c->side;
	if (find_translation(c) <= 0)
		return 0;
	if (is_over(c)) {
		c->key = c->meant;
		return 0;
	}
	c->meant_address = inner->source;
	c->meant_port = inner->source_port;
	__builtin_memcpy(inner->source.w, c->translation.address, sizeof(inner->source.w));
	__builtin_memcpy(c->packet.destination.w, c->translation.address, sizeof(inner->source.w));
	inner->source_port = c->translation.port;
	return 1;
}

/* What is sent to a backend speaks of what it answered. Returns 0 where all of it was done. */
__attribute__((noinline)) int quote_forth(struct __sk_buff *skb, struct context *c)
{
	struct end_change end = {};
	struct packet *inner;
	__u32 v4;

	c = own_context(c);
	if (!c)
		return -1;
	inner = &c->inner;
	v4 = inner->source.family == 4;
	end.from = c->meant_address.w;
	end.to = c->translation.address;
	end.from_port = c->meant_port;
	end.to_port = c->translation.port;
	end.address_at = inner->network + (v4 ? 12 : 8);
	end.port_at = inner->transport;
	return change_quoted(skb, c, &end, c->packet.network + (v4 ? 16 : 24)) ? -1 : 0;
}

#endif

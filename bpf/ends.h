/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Rewriting an end of a packet, and the sums that are over it. */
#ifndef MOAT_ENDS_H
#define MOAT_ENDS_H

#include "context.h"

/* Where the transport header's sum stands; 0 = in no header, or over no addresses. */
static __always_inline __u32 sum_offset(const struct packet *p)
{
	if (p->flags & PACKET_FRAGMENT_LATER)
		return 0;
	return p->protocol == IPPROTO_TCP   ? p->transport + 16
	       : p->protocol == IPPROTO_UDP ? p->transport + 6
					    : 0;
}

/* The sum of an IPv6 packet as its hardware made it stays as it is, since its parts make good for one
 * another; the helper takes it for an IPv4 packet's, and moves it. */
static __always_inline long change_sum_v6(struct __sk_buff *skb, __u32 sum, __u32 *from, __u32 *to,
					  __u64 flags)
{
	__s64 difference = bpf_csum_diff(from, 16, to, 16, 0);

	if (bpf_l4_csum_replace(skb, sum, 0, difference, flags))
		return -1;
	if (flags & BPF_F_PSEUDO_HDR)
		bpf_csum_update(skb, difference);
	return 0;
}

/* One end of a packet. `place`: of its address in the IP header, and of its port in the transport's. */
struct end_change {
	__u32 *from;
	__u32 *to;
	__u16 from_port;
	__u16 to_port;
	__u32 address_at;
	__u32 port_at;
};

/* Rewrites an end, and the sums. `sum`: where the transport's stands; 0 = nowhere. `pseudo`:
 * BPF_F_PSEUDO_HDR, or 0 in a packet that is quoted: what is known of the sum of all (skb->csum) is not over
 * its addresses. Returns 0 where all of it was done. */
static __always_inline long change_end(struct __sk_buff *skb, const struct packet *p,
				       const struct end_change *end, __u32 sum, __u64 pseudo)
{
	__u32 v4 = p->source.family == 4;
	/* A datagram without a sum stays without. */
	__u64 flags = pseudo | (p->protocol == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0);
	__u16 from_port = bpf_htons(end->from_port), to_port = bpf_htons(end->to_port);

	if (sum && v4 && bpf_l4_csum_replace(skb, sum, end->from[0], end->to[0], flags | 4))
		return -1;
	if (sum && !v4 && change_sum_v6(skb, sum, end->from, end->to, flags))
		return -1;
	if (sum && bpf_l4_csum_replace(skb, sum, from_port, to_port, (flags & ~BPF_F_PSEUDO_HDR) | 2))
		return -1;
	if (v4 && (bpf_l3_csum_replace(skb, p->network + 10, end->from[0], end->to[0], 4) ||
		   bpf_skb_store_bytes(skb, end->address_at, end->to, 4, 0)))
		return -1;
	if (!v4 && bpf_skb_store_bytes(skb, end->address_at, end->to, 16, 0))
		return -1;
	if (p->flags & PACKET_FRAGMENT_LATER)
		return 0;
	return bpf_skb_store_bytes(skb, end->port_at, &to_port, 2, 0);
}

#endif

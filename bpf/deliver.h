/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How an allowed packet goes on: straight into the neighbour pod, or by the stack. Skipping the stack must
 * look like routing to the receiver: MACs are rewritten and the TTL is lowered; a TTL that would run out
 * takes the stack, which answers for it, and so does a packet larger than the neighbour's MTU. */
#ifndef MOAT_DELIVER_H
#define MOAT_DELIVER_H

#include "parse.h"

#define TCX_NEXT (-1)
#define TCX_DROP 2

/* Between these two pods, whatever the packet. */
static __always_inline int may_redirect(struct __sk_buff *skb, const struct endpoint *from,
					const struct endpoint *to, __u8 ttl)
{
	if (!(to->flags & ENDPOINT_REDIRECT) || !(from->flags & ENDPOINT_REDIRECT))
		return 0;
	if (ttl <= 1)
		return 0;
	return skb->gso_size || skb->len <= to->mtu + ETH_HLEN;
}

/* RFC 1624: the sum grows by what the word lost; TTL is the word's high byte. */
static __always_inline void lower_ttl(__u8 *ip, __u32 family)
{
	__u32 sum;

	if (family == 6) {
		ip[7]--;
		return;
	}
	ip[8]--;
	sum = be16(ip + 10) + 0x100;
	sum = (sum & 0xffff) + (sum >> 16);
	ip[10] = sum >> 8;
	ip[11] = sum;
}

static __always_inline int deliver(struct __sk_buff *skb, struct context *c)
{
	struct counters *counters = node_counters();
	__u8 *frame = c->bytes;

	if (counters)
		counters->passed[c->hook & 1]++;
	if (c->hook != HOOK_FROM_POD || !c->destination.ifindex || c->destination.ifindex == c->ifindex)
		return TCX_NEXT;
	/* Not judged by policy: routed, its hop limit shows the neighbour's hook that it crossed a link. */
	if (c->packet.flags & PACKET_NEIGHBOUR)
		return TCX_NEXT;
	if (!may_redirect(skb, &c->source, &c->destination, c->packet.ttl))
		return TCX_NEXT;
	if (bpf_skb_load_bytes(skb, 0, frame, ETH_HLEN + 12))
		return TCX_NEXT;
	__builtin_memcpy(frame, c->destination.pod_mac, 6);
	__builtin_memcpy(frame + 6, c->destination.host_mac, 6);
	lower_ttl(frame + ETH_HLEN, c->packet.source.family);
	if (bpf_skb_store_bytes(skb, 0, frame, ETH_HLEN + 12, 0))
		return TCX_NEXT;
	/* The mark would reach the pod. */
	skb->mark = 0;
	if (counters)
		counters->redirected++;
	return bpf_redirect_peer(c->destination.ifindex, 0);
}

#endif

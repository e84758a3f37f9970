/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How an allowed packet goes on: past the stack into a pod or out by an uplink, or by the stack. Skipping the
 * stack must look like routing to the receiver: MACs are rewritten and the TTL is lowered. */
#ifndef MOAT_DELIVER_H
#define MOAT_DELIVER_H

#include "route.h"
#include "event.h"
#include "quoted.h"

#define TCX_NEXT (-1)
#define TCX_DROP 2
#define PACKET_FOR_US 0 /* skb->pkt_type: PACKET_HOST */

/* The pod's interface may be entered from behind the stack, by a packet of this length. */
static __always_inline int may_enter(const struct endpoint *to, __u32 length)
{
	return (to->flags & ENDPOINT_REDIRECT) && length <= to->mtu;
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

/* A sum that the uplink's hardware made of an IPv6 packet must follow its hop limit; that of an IPv4 packet
 * stays as it is, since the header's own sum makes good for the TTL. */
static __always_inline void mend_sum(struct __sk_buff *skb, __u32 family)
{
	if (family == 6)
		bpf_csum_update(skb, (__u16)~bpf_htons(1));
}

/* A part of it was rewritten: nobody may have it. */
static __always_inline int drop_spoiled(struct context *c)
{
	report_reason(c, REASON_MALFORMED);
	return TCX_DROP;
}

/* What enters a client's pod is the Service's that it meant. Returns 0 where all of it became so. */
static __always_inline int turn_back(struct __sk_buff *skb, struct context *c)
{
	return c->packet.flags & PACKET_ICMP_ERROR ? quote_back(skb, c) : translate_back(skb, c);
}

/* Into the pod's end of its link. */
static __always_inline int enter_pod(struct __sk_buff *skb, struct context *c)
{
	__u8 *frame = c->bytes;

	if (c->back && turn_back(skb, c))
		return drop_spoiled(c);
	if (bpf_skb_load_bytes(skb, 0, frame, ETH_HLEN + 12))
		return TCX_NEXT;
	__builtin_memcpy(frame, c->destination.pod_mac, 6);
	__builtin_memcpy(frame + 6, c->destination.host_mac, 6);
	lower_ttl(frame + ETH_HLEN, c->packet.source.family);
	if (bpf_skb_store_bytes(skb, 0, frame, ETH_HLEN + 12, 0))
		return TCX_NEXT;
	if (c->uplink)
		mend_sum(skb, c->packet.source.family);
	/* The mark would reach the pod. */
	skb->mark = 0;
	return bpf_redirect_peer(c->destination.ifindex, 0);
}

/* By an uplink: the kernel's neighbour table has the MACs, or asks for them. */
static __always_inline int leave_node(struct __sk_buff *skb, struct context *c)
{
	__u8 *ip = c->bytes;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, ip, 12))
		return TCX_NEXT;
	lower_ttl(ip, c->packet.source.family);
	if (bpf_skb_store_bytes(skb, ETH_HLEN, ip, 12, 0))
		return TCX_NEXT;
	return bpf_redirect_neigh(c->routed, &c->next_hop, sizeof(c->next_hop), 0);
}

static __always_inline void count_passed(const struct context *c)
{
	struct counters *counters = node_counters();

	if (counters)
		counters->passed[c->hook & 1]++;
}

/* To a client outside, as the Service that it meant. No stack would forward what has an address of its own
 * node's, and none has seen this flow: what can't go past it goes nowhere. */
static __always_inline int answer_outside(struct __sk_buff *skb, struct context *c)
{
	struct packet *p = &c->packet;
	struct counters *counters = node_counters();

	/* No other pod's hooks are asked, so that they may be an earlier version's. */
	if (!(c->source.flags & ENDPOINT_PLAIN) || p->ttl <= 1 || turn_back(skb, c))
		return drop_spoiled(c);
	p->source = c->meant_address;
	p->source.family = p->destination.family;
	p->source_port = c->meant_port;
	if (!find_route(skb, c))
		return drop_spoiled(c);
	if (counters)
		counters->routed++;
	count_passed(c);
	return leave_node(skb, c);
}

/* Back into the pod that it comes from: what can't go past the stack goes nowhere. No other pod's hooks are
 * asked, as with answers outside. */
static __always_inline int deliver_hairpin(struct __sk_buff *skb, struct context *c)
{
	struct counters *counters = node_counters();

	if (!(c->source.flags & ENDPOINT_PLAIN) || !may_skip_stack(&c->packet) ||
	    packet_length(skb, &c->packet) > c->destination.mtu)
		return drop_spoiled(c);
	if (counters)
		counters->redirected++;
	count_passed(c);
	return enter_pod(skb, c);
}

/* At a pod's hook. */
static __always_inline int deliver(struct __sk_buff *skb, struct context *c)
{
	struct counters *counters = node_counters();

	if (c->hook == HOOK_TO_POD && c->back && turn_back(skb, c))
		return drop_spoiled(c);
	if (c->hairpin)
		return deliver_hairpin(skb, c);
	if (c->hook == HOOK_FROM_POD && c->back && !c->destination.ifindex)
		return answer_outside(skb, c);
	count_passed(c);
	if (c->hook != HOOK_FROM_POD || !c->direct || !may_skip_stack(&c->packet) ||
	    !(c->source.flags & ENDPOINT_REDIRECT))
		return TCX_NEXT;
	if (c->destination.ifindex) {
		if (!may_enter(&c->destination, packet_length(skb, &c->packet)))
			return TCX_NEXT;
		if (counters)
			counters->redirected++;
		return enter_pod(skb, c);
	}
	if (!c->has_key || (!c->routed && !find_route(skb, c)))
		return TCX_NEXT;
	if (counters)
		counters->routed++;
	return leave_node(skb, c);
}

#endif

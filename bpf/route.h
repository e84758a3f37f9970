/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The ways past the host's stack: which flows may take them, and where they lead. What the host's netfilter
 * would translate must pass it in both directions, so a flow goes past the stack only where its first packet
 * was seen as it is on such a way (ENTRY_DIRECT); one that the stack has carried stays there. */
#ifndef MOAT_ROUTE_H
#define MOAT_ROUTE_H

#include "glance.h"

#define FAMILY_IPV4 2 /* AF_INET */
#define FAMILY_IPV6 10
#define WIRE_TIME_SHIFT 20 /* of nanoseconds: about a millisecond */
#define WIRE_TIMES 2048    /* so long a packet may be between the uplink's hook and the pod's */

/* Whether user space has said one of these things (enum uplink_flag) of an interface. */
static __always_inline int has_way(__u32 interface, __u32 flags)
{
	struct tagged *word = bpf_map_lookup_elem(&uplink_map, &interface), found;

	if (!word)
		return 0;
	found = read_tagged(word);
	return found.tag == interface && (found.value & flags);
}

/* Whether packets of a family may go past the stack at an interface. */
static __always_inline int is_uplink(__u32 interface, __u32 family)
{
	return has_way(interface, family == 6 ? UPLINK_IPV6 : UPLINK_IPV4);
}

/* What a pod of this node sent came in by that pod's interface, or out of a bridge that it is a port of. */
static __always_inline int came_from(const struct __sk_buff *skb, const struct endpoint *source)
{
	return source->ifindex == skb->ingress_ifindex || has_way(skb->ingress_ifindex, UPLINK_BRIDGE);
}

/* A TTL that would run out takes the stack, which answers for it; a fragment, since not all of its datagram's
 * others need be known. */
static __always_inline int may_skip_stack(const struct packet *p)
{
	return p->ttl > 1 && !(p->flags & (PACKET_FRAGMENT_FIRST | PACKET_FRAGMENT_LATER));
}

/* Length of the IP packet as a link sees it: of each one that an aggregated packet will be cut into. */
static __always_inline __u32 link_length(struct __sk_buff *skb, __u32 headers)
{
	__u32 segment = skb->gso_size, whole = skb->len - ETH_HLEN;

	/* The verifier takes each read of the packet's fields as it stands here, and no other way. */
	asm volatile("" : "+r"(segment), "+r"(whole));
	return segment ? headers + segment : whole;
}

static __always_inline __u32 packet_length(struct __sk_buff *skb, const struct packet *p)
{
	__u8 offset = 0xf0;

	if (!skb->gso_size || p->protocol != IPPROTO_TCP)
		return link_length(skb, p->transport - p->network + 8);
	bpf_skb_load_bytes(skb, p->transport + 12, &offset, 1);
	return link_length(skb, p->transport - p->network + (offset >> 4) * 4);
}

static __always_inline __u32 glance_length(struct __sk_buff *skb, const struct glance *g)
{
	return link_length(skb, g->transport - ETH_HLEN + g->header);
}

static __always_inline void ask_route(struct bpf_fib_lookup *route, __u32 family, const __u32 *from,
				      const __u32 *to)
{
	__builtin_memset(route, 0, sizeof(*route));
	route->family = family == 4 ? FAMILY_IPV4 : FAMILY_IPV6;
	route->ipv4_src = from[0];
	route->ipv4_dst = to[0];
	if (family == 4)
		return;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		route->ipv6_src[i] = from[i];
		route->ipv6_dst[i] = to[i];
	}
}

/* The interface by which this node's routes send what was asked; 0 where they do not. */
static __always_inline __u32 answer_route(struct __sk_buff *skb, struct bpf_fib_lookup *route)
{
	/* Kernels before 6.6 look the neighbour up as well; an unknown one is asked for by the redirect. */
	long found = bpf_fib_lookup(skb, route, sizeof(*route), strict_keys ? 0 : BPF_FIB_LOOKUP_SKIP_NEIGH);

	return found == BPF_FIB_LKUP_RET_SUCCESS || found == BPF_FIB_LKUP_RET_NO_NEIGH ? route->ifindex : 0;
}

/* The uplink that what was asked leaves by, with its next hop; 0 where it must take the stack. */
static __always_inline __u32 take_route(struct __sk_buff *skb, struct bpf_fib_lookup *route, __u32 family,
					struct bpf_redir_neigh *hop)
{
	__u32 uplink;

	/* Rules may ask for the mark, which the look-up does not take. */
	if (skb->mark)
		return 0;
	uplink = answer_route(skb, route);
	if (!uplink || !is_uplink(uplink, family))
		return 0;
	hop->nh_family = route->family;
	hop->ipv4_nh = route->ipv4_dst;
	if (route->family == FAMILY_IPV6) {
#pragma unroll
		for (int i = 0; i < 4; i++)
			hop->ipv6_nh[i] = route->ipv6_dst[i];
	}
	return uplink;
}

/* The way of a pod's packet. Returns 0 where it must take the stack. */
__attribute__((noinline)) int find_route(struct __sk_buff *skb, struct context *c)
{
	struct bpf_fib_lookup *route;
	struct packet *p;
	__u32 length;

	c = own_context(c);
	if (!c)
		return 0;
	p = &c->packet;
	route = &c->route;
	length = packet_length(skb, p);
	if (length > 0xffff)
		return 0;
	ask_route(route, p->source.family, p->source.w, p->destination.w);
	route->l4_protocol = p->protocol;
	route->sport = bpf_htons(p->source_port);
	route->dport = bpf_htons(p->destination_port);
	route->tot_len = length;
	route->ifindex = c->ifindex;
	c->routed = take_route(skb, route, p->source.family, &c->next_hop);
	return c->routed != 0;
}

/* The way back from a local endpoint leads by the uplink that its packet came by: else the stack shall judge
 * whether the source is one that may come from there (rp_filter), and see both directions. */
__attribute__((noinline)) int is_symmetric(struct __sk_buff *skb, struct context *c, __u32 uplink)
{
	c = own_context(c);
	if (!c || !uplink || !is_uplink(uplink, c->packet.source.family))
		return 0;
	ask_route(&c->route, c->packet.source.family, c->packet.destination.w, c->packet.source.w);
	c->route.l4_protocol = c->packet.protocol;
	c->route.sport = bpf_htons(c->packet.destination_port);
	c->route.dport = bpf_htons(c->packet.source_port);
	c->route.ifindex = c->destination.ifindex;
	return answer_route(skb, &c->route) == uplink;
}

/* From the wire to the stack: what comes out of it to the pod's hook under the same key was not translated.
 */
static __always_inline void remember_wire(struct context *c)
{
	__u64 word = c->now >> WIRE_TIME_SHIFT << 32 | c->key_tag;

	bpf_map_update_elem(&wire_map, &c->key, &word, BPF_ANY);
}

static __always_inline int was_on_wire(struct context *c)
{
	__u64 *word = bpf_map_lookup_elem(&wire_map, &c->key), found;

	if (!word)
		return 0;
	found = *(volatile __u64 *)word;
	return (__u32)found == c->key_tag &&
	       (__u32)(c->now >> WIRE_TIME_SHIFT) - (__u32)(found >> 32) < WIRE_TIMES;
}

/* Whether the flow that this packet opens goes past the stack from now on. */
static __always_inline int opens_direct(struct __sk_buff *skb, struct context *c)
{
	struct packet *p = &c->packet;

	if (c->uplink)
		return 1;
	if (!may_skip_stack(p))
		return 0;
	if (c->hook == HOOK_TO_POD)
		return !c->own_node && !c->source.ifindex && was_on_wire(c) &&
		       is_symmetric(skb, c, skb->ingress_ifindex);
	if (!(c->source.flags & ENDPOINT_REDIRECT))
		return 0;
	if (c->destination.ifindex)
		return c->destination.flags & ENDPOINT_REDIRECT;
	/* Answers go past the stack only where they are ordinary; it must not see them alone. To a pod that
	 * is known: what goes outside may be masqueraded, and nodes are no pods. */
	return c->has_key && c->exact && !node_owner(&p->destination) && find_route(skb, c);
}

/* A packet of a flow that goes past the stack came out of the stack to a pod: the flow is carried there now,
 * and perhaps translated. What was handed to it unchanged a moment ago does not count. */
static __always_inline int left_direct(struct context *c)
{
	/* What an uplink's hook never takes (options, fragments) says nothing of the flow's way, or anybody
	 * could end it by one such packet. */
	if (!c->has_key && !c->source.ifindex)
		return 0;
	return c->hook == HOOK_TO_POD && !c->uplink && (c->entry.flags & ENTRY_DIRECT) && !was_on_wire(c);
}

#endif

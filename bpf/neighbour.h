/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ARP, NDP and MLD: what a pod may say of itself, and nothing of anybody else. */
#ifndef MOAT_NEIGHBOUR_H
#define MOAT_NEIGHBOUR_H

#include "endpoint.h"
#include "parse.h"

#define NDP_SOLICIT_ROUTER 133
#define NDP_SOLICIT 135
#define NDP_ADVERTISE 136
#define NDP_SOURCE_MAC 1
#define NDP_TARGET_MAC 2
#define NDP_NONCE 14

/* True where the address is a ready endpoint of this interface. */
static __always_inline int is_own(struct context *c, const struct addr *address)
{
	if (find_endpoint(c, address, &c->source))
		return 0;
	return c->source.ifindex == c->ifindex && (c->source.flags & ENDPOINT_READY);
}

/* The pod's frame: sender's MAC and IP must be its own. */
__attribute__((noinline)) int judge_arp(struct __sk_buff *skb, struct context *c)
{
	struct packet *p;
	const __u8 *mac;
	__u8 *arp;

	c = own_context(c);
	if (!c)
		return REASON_TABLE_ERROR;
	p = &c->packet;
	mac = c->mac;
	arp = c->bytes;
	if (!find_mac(c->ifindex, c->mac))
		return REASON_NO_ENDPOINT;
	clear_packet(p, ETH_HLEN);
	if (read_packet(skb, ETH_HLEN, arp, 28))
		return REASON_MALFORMED;
	if (be16(arp) != 1 || be16(arp + 2) != ETH_P_IP || arp[4] != 6 || arp[5] != 4)
		return REASON_MALFORMED;
	p->source.family = p->destination.family = 4;
	p->source.w[0] = wire32(arp + 14);
	p->destination.w[0] = wire32(arp + 24);
	if (c->hook == HOOK_TO_POD)
		return REASON_NONE;
	/* No room for more than Ethernet's own padding: nobody judges what is in it. */
	if (skb->len > ETH_ZLEN)
		return REASON_MALFORMED;
	if (!mac_equal(arp + 8, mac) || !mac_equal(c->ethernet + 6, mac))
		return REASON_SPOOFED_NEIGHBOUR;
	/* 0.0.0.0 asks whether an address is taken, since its own pod is about to take it (RFC 5227). */
	if (p->source.w[0] == 0 && be16(arp + 6) == 1)
		return is_own(c, &p->destination) ? REASON_NONE : REASON_SPOOFED_NEIGHBOUR;
	return is_own(c, &p->source) ? REASON_NONE : REASON_SPOOFED_NEIGHBOUR;
}

static __always_inline int is_zero(const struct addr *a)
{
	return !(a->w[0] | a->w[1] | a->w[2] | a->w[3]);
}

/* fe80::/10 */
static __always_inline int is_link_local(const struct addr *a)
{
	return (a->w[0] & bpf_htonl(0xffc00000u)) == bpf_htonl(0xfe800000u);
}

/* fe80::/64 with the interface identifier that the MAC gives (RFC 4291, appendix A). */
static __always_inline int is_own_link_local(const struct addr *a, const __u8 *mac)
{
	__u32 high = (__u32)(mac[0] ^ 2) << 24 | (__u32)mac[1] << 16 | (__u32)mac[2] << 8 | 0xff;
	__u32 low = 0xfe000000u | (__u32)mac[3] << 16 | (__u32)mac[4] << 8 | mac[5];

	return a->w[0] == bpf_htonl(0xfe800000u) && a->w[1] == 0 && a->w[2] == bpf_htonl(high) &&
	       a->w[3] == bpf_htonl(low);
}

static __always_inline int is_own_mac(const __u8 *option, const __u8 *mac)
{
	return (option[0] == NDP_SOURCE_MAC || option[0] == NDP_TARGET_MAC) && mac_equal(option + 2, mac);
}

/* Link-layer address options must name the pod's own MAC; beside them a nonce (RFC 7527), and nothing that
 * could carry more to who is not to hear it. */
static __always_inline int judge_options(struct __sk_buff *skb, struct context *c, __u32 at, const __u8 *mac)
{
	for (int i = 0; i < 4; i++) {
		__u8 *option = c->bytes;

		if (at >= c->packet.end)
			return REASON_NONE;
		if (at + 8 > c->packet.end || read_packet(skb, at, option, 8) || option[1] == 0)
			return REASON_MALFORMED;
		if (at + option[1] * 8 > c->packet.end)
			return REASON_MALFORMED;
		if (option[1] != 1 || (option[0] != NDP_NONCE && !is_own_mac(option, mac)))
			return REASON_SPOOFED_NEIGHBOUR;
		at += option[1] * 8;
	}
	return REASON_SPOOFED_NEIGHBOUR;
}

static __always_inline int judge_advertised(struct __sk_buff *skb, struct context *c, const __u8 *mac)
{
	struct addr *target = &c->masked;

	if (c->packet.transport + 24 > c->packet.end ||
	    read_packet(skb, c->packet.transport + 8, c->bytes, 16))
		return REASON_MALFORMED;
	__builtin_memset(target, 0, sizeof(*target));
	target->family = 6;
#pragma unroll
	for (int i = 0; i < 4; i++)
		target->w[i] = wire32(c->bytes + 4 * i);
	if (is_own_link_local(target, mac) || is_own(c, target))
		return REASON_NONE;
	return REASON_SPOOFED_NEIGHBOUR;
}

/* What is not judged must not leave the link: groups, link-local addresses, this node's and its pods'. */
static __always_inline int stays_here(struct context *c, const struct addr *to)
{
	if ((to->w[0] & 0xff) == 0xff || is_link_local(to))
		return 1;
	if (is_node_address(to))
		return 1;
	return !find_endpoint(c, to, &c->destination) && c->destination.ifindex;
}

/* NDP and MLD stand before any tier. */
__attribute__((noinline)) int judge_neighbour(struct __sk_buff *skb, struct context *c)
{
	struct packet *p;
	const __u8 *mac;
	__u32 options;
	__u8 type;
	int mld, reason;

	c = own_context(c);
	if (!c)
		return REASON_TABLE_ERROR;
	if (!find_mac(c->ifindex, c->mac))
		return REASON_NO_ENDPOINT;
	p = &c->packet;
	mac = c->mac;
	type = p->destination_port >> 8;
	mld = type < NDP_SOLICIT_ROUTER || type == 143;
	options = p->transport + (type == NDP_SOLICIT || type == NDP_ADVERTISE ? 24 : 8);
	if (!mld && options > p->end)
		return REASON_MALFORMED;
	if (p->ttl != (mld ? 1 : 255) || (p->flags & (PACKET_FRAGMENT_FIRST | PACKET_FRAGMENT_LATER)))
		return REASON_SPOOFED_NEIGHBOUR;
	/* A hop limit of 1 may be what routers left of a larger one; they pass on none of these sources (RFC
	 * 3810, section 5). */
	if (c->hook == HOOK_TO_POD)
		return mld && !is_zero(&p->source) && !is_link_local(&p->source) ? REASON_SPOOFED_NEIGHBOUR
										 : REASON_NONE;
	if (!mac_equal(c->ethernet + 6, mac))
		return REASON_SPOOFED_NEIGHBOUR;
	/* A pod is no router: it asks nobody for members, advertises no routes, redirects nobody. */
	if (type == 130 || type == 134 || type == 137)
		return REASON_SPOOFED_NEIGHBOUR;
	if (!is_own_link_local(&p->source, mac) && !(is_zero(&p->source) && type != NDP_ADVERTISE) &&
	    !is_own(c, &p->source))
		return REASON_SPOOFED_NEIGHBOUR;
	if (!stays_here(c, &p->destination))
		return REASON_SPOOFED_NEIGHBOUR;
	if (mld)
		return REASON_NONE;
	/* Nobody asks for an address that it is about to take (RFC 4862, section 5.4): whoever else is, would
	 * give it up. */
	if (type == NDP_ADVERTISE || (type == NDP_SOLICIT && is_zero(&p->source))) {
		reason = judge_advertised(skb, c, mac);
		if (reason)
			return reason;
	}
	return judge_options(skb, c, options, mac);
}

#endif

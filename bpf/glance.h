/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A quick look at a frame where it lies: ordinary packets, which nearly all are, and their key. What it does
 * not take for one is parsed in full (parse.h), and only there refused. */
#ifndef MOAT_GLANCE_H
#define MOAT_GLANCE_H

#include "conntrack.h"

static __always_inline void *packet_data(struct __sk_buff *skb)
{
	return (void *)(long)skb->data;
}

static __always_inline void *packet_end(struct __sk_buff *skb)
{
	return (void *)(long)skb->data_end;
}

/* Ports of the transport header at `at`, `room` bytes before the packet's end. Returns 0 where it is not
 * ordinary. */
static __always_inline int glance_ports(struct glance *g, const __u8 *at, const void *end, __u32 room)
{
	__u16 length;

	if ((void *)(at + 8) > end || room < 8)
		return 0;
	g->key.port[0] = be16(at);
	g->key.port[1] = be16(at + 2);
	if (g->key.protocol == IPPROTO_UDP) {
		g->header = 8;
		length = be16(at + 4);
		return length == 0 || length >= 8;
	}
	if (g->key.protocol != IPPROTO_TCP || room < 20 || (void *)(at + 20) > end)
		return 0;
	g->tcp_flags = at[13];
	if ((at[13] & TCP_SYN) && (at[13] & (TCP_FIN | TCP_RST)))
		return 0;
	if ((at[12] >> 4) < 5 || (at[12] >> 4) * 4 > room)
		return 0;
	g->header = (at[12] >> 4) * 4;
	g->segment.sequence = be32(at + 4);
	g->segment.acknowledged = be32(at + 8);
	g->segment.end = g->segment.sequence + 1;
	if (!(at[13] & TCP_SYN))
		g->segment.end = g->segment.sequence + room - (at[12] >> 4) * 4 + (at[13] & TCP_FIN);
	return 1;
}

static __always_inline int glance_v4(struct glance *g, const __u8 *ip, const void *end, __u32 room)
{
	__u32 length;

	if ((void *)(ip + 20) > end || ip[0] != 0x45 || (be16(ip + 6) & 0x3fff))
		return 0;
	length = be16(ip + 2);
	if (length < 20 || length > room || ip[16] >= 224)
		return 0;
	g->ttl = ip[8];
	g->transport = ETH_HLEN + 20;
	g->end = ETH_HLEN + length;
	g->key.family = 4;
	g->key.protocol = ip[9];
	g->key.address[0][0] = wire32(ip + 12);
	g->key.address[1][0] = wire32(ip + 16);
	return glance_ports(g, ip + 20, end, length - 20);
}

static __always_inline int glance_v6(struct glance *g, const __u8 *ip, const void *end, __u32 room)
{
	__u32 length;

	if ((void *)(ip + 40) > end || ip[0] >> 4 != 6)
		return 0;
	length = be16(ip + 4);
	if (length == 0 || length + 40 > room || ip[24] == 0xff)
		return 0;
	g->ttl = ip[7];
	g->transport = ETH_HLEN + 40;
	g->end = ETH_HLEN + 40 + length;
	g->key.family = 6;
	g->key.protocol = ip[6];
#pragma unroll
	for (int i = 0; i < 4; i++) {
		g->key.address[0][i] = wire32(ip + 8 + 4 * i);
		g->key.address[1][i] = wire32(ip + 24 + 4 * i);
	}
	if (v4_mapped(g->key.address[0]) || v4_mapped(g->key.address[1]))
		return 0;
	return glance_ports(g, ip + 40, end, length);
}

/* Turns the key so that the lower end comes first. */
static __always_inline void order_key(struct glance *g)
{
	__u16 port = g->key.port[0];

	g->side = side_of(g->key.address[0], port, g->key.address[1], g->key.port[1]) & 1;
	if (!g->side)
		return;
	g->key.port[0] = g->key.port[1];
	g->key.port[1] = port;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		__u32 word = g->key.address[0][i];

		g->key.address[0][i] = g->key.address[1][i];
		g->key.address[1][i] = word;
	}
}

/* Returns 0 where the frame is not an ordinary packet. */
static __always_inline int glance(struct __sk_buff *skb, struct glance *g, __u32 hook)
{
	const __u8 *eth = packet_data(skb), *end = packet_end(skb);
	__u32 room = skb->len - ETH_HLEN;
	__u16 type;
	int ordinary = 0;

	__builtin_memset(g, 0, sizeof(*g));
	if (eth + ETH_HLEN > end || skb->vlan_present || (hook == HOOK_FROM_POD && (eth[0] & 1)))
		return 0;
	type = be16(eth + 12);
	if (type == ETH_P_IP)
		ordinary = glance_v4(g, eth + ETH_HLEN, end, room);
	else if (type == ETH_P_IPV6)
		ordinary = glance_v6(g, eth + ETH_HLEN, end, room);
	if (!ordinary)
		return 0;
	order_key(g);
	return 1;
}

/* The packet and its key, for the long way. */
static __always_inline int take_glance(struct __sk_buff *skb, struct context *c)
{
	const struct glance *g = &c->glance;
	const __u8 *eth = packet_data(skb);
	struct packet *p = &c->packet;
	__u32 side = g->side & 1;

	if ((void *)(eth + ETH_HLEN) > packet_end(skb))
		return REASON_MALFORMED;
	__builtin_memcpy(c->ethernet, eth, ETH_HLEN);
	p->source.family = p->destination.family = g->key.family;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		p->source.w[i] = side ? g->key.address[1][i] : g->key.address[0][i];
		p->destination.w[i] = side ? g->key.address[0][i] : g->key.address[1][i];
	}
	p->source_port = side ? g->key.port[1] : g->key.port[0];
	p->destination_port = side ? g->key.port[0] : g->key.port[1];
	p->segment = g->segment;
	p->transport = g->transport;
	p->end = g->end;
	p->protocol = g->key.protocol;
	p->tcp_flags = g->tcp_flags;
	p->ttl = g->ttl;
	c->key = g->key;
	c->key_tag = ct_tag(&c->key);
	c->side = side;
	c->has_key = 1;
	return REASON_NONE;
}

#endif

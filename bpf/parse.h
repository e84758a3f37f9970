/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Frame → struct packet. Every length is checked against the packet's own end; what is not understood has a
 * reason. One path for both families: only the network header's parser differs. */
#ifndef MOAT_PARSE_H
#define MOAT_PARSE_H

#include <bpf/bpf_endian.h>
#include <linux/if_ether.h>
#include <linux/in.h>

#include "context.h"

/* IPv6 next headers; <linux/in6.h> drags in what a BPF target lacks. */
#define PROTO_HOP_BY_HOP 0
#define PROTO_ROUTING 43
#define PROTO_FRAGMENT 44
#define PROTO_ICMPV6 58
#define PROTO_DESTINATION 60
#define PROTO_MOBILITY 135
#define PROTO_HIP 139
#define PROTO_SHIM6 140
#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4
#define TCP_ACK 16
#define MAX_EXTENSIONS 6
#define V4_REDIRECT 5
#define V4_OPTION_LSRR 131
#define V4_OPTION_SSRR 137

static __always_inline __u16 be16(const __u8 *at)
{
	return (__u16)at[0] << 8 | at[1];
}

static __always_inline __u32 be32(const __u8 *at)
{
	return (__u32)at[0] << 24 | (__u32)at[1] << 16 | (__u32)at[2] << 8 | at[3];
}

/* A word as on the wire. */
static __always_inline __u32 wire32(const __u8 *at)
{
	return *(const __u32 *)at;
}

/*
 * Copies what is judged. It may lie in memory that its pod goes on writing (pages spliced into a tunnel of
 * its own): it is made the kernel's own first, so that whoever reads it later reads what was judged. Returns
 * 0 where it did.
 */
static __always_inline long read_packet(struct __sk_buff *skb, __u32 offset, void *into, __u32 length)
{
	if (bpf_skb_pull_data(skb, offset + length))
		return -1;
	return bpf_skb_load_bytes(skb, offset, into, length);
}

static __always_inline int is_icmp(const struct packet *p)
{
	return p->source.family == 4 ? p->protocol == IPPROTO_ICMP : p->protocol == PROTO_ICMPV6;
}

/* Source routes change the destination after we judged it. */
__attribute__((noinline)) int v4_options(struct __sk_buff *skb, struct context *c, __u32 offset, __u32 length)
{
	__u32 skip = 0;

	c = own_context(c);
	if (!c || length > 40 || length == 0)
		return REASON_MALFORMED;
	/* 1 to 40 as it is: written so that verifiers before 6.6 see it, too. */
	asm volatile("" : "+r"(length));
	length = ((length - 1) & 63) + 1;
	if (read_packet(skb, offset, c->bytes, length))
		return REASON_MALFORMED;
	for (__u32 at = 0; at < 40; at++) {
		__u8 option = c->bytes[at];

		if (at >= length)
			break;
		if (skip) {
			skip--;
			continue;
		}
		if (option == 0)
			break;
		if (option == V4_OPTION_LSRR || option == V4_OPTION_SSRR)
			return REASON_MALFORMED;
		if (option == 1)
			continue;
		if (at + 1 >= length || c->bytes[at + 1] < 2)
			return REASON_MALFORMED;
		skip = c->bytes[at + 1] - 1;
	}
	return REASON_NONE;
}

static __always_inline int parse_v4(struct __sk_buff *skb, struct context *c, struct packet *p, __u32 room)
{
	__u8 *ip = c->bytes;
	__u32 header, length, fragment;

	if (read_packet(skb, p->network, ip, 20) || ip[0] >> 4 != 4)
		return REASON_MALFORMED;
	header = (ip[0] & 15) * 4;
	length = be16(ip + 2);
	/* Large aggregated packets of the kernel's own offloads say 0. */
	if (length == 0 && room > 0xffff)
		length = room;
	if (header < 20 || length < header || length > room)
		return REASON_MALFORMED;
	fragment = be16(ip + 6);
	p->source.family = p->destination.family = 4;
	p->source.w[0] = wire32(ip + 12);
	p->destination.w[0] = wire32(ip + 16);
	p->protocol = ip[9];
	p->ttl = ip[8];
	p->transport = p->network + header;
	p->end = p->network + length;
	p->fragment_id = be16(ip + 4);
	if (fragment & 0x1fff) {
		p->flags |= PACKET_FRAGMENT_LATER;
		if ((fragment & 0x1fff) == 1 && p->protocol == IPPROTO_TCP)
			return REASON_FRAGMENT_TINY;
	} else if (fragment & 0x2000) {
		p->flags |= PACKET_FRAGMENT_FIRST;
	}
	return header == 20 ? REASON_NONE : v4_options(skb, c, p->network + 20, header - 20);
}

/* Walks the chain of IPv6 extension headers; leaves protocol and transport at the upper layer. */
__attribute__((noinline)) int parse_extensions(struct __sk_buff *skb, struct context *c, struct packet *p)
{
	c = own_context(c);
	if (!c || !p)
		return REASON_TABLE_ERROR;
	for (int i = 0; i <= MAX_EXTENSIONS; i++) {
		__u8 *header = c->bytes;
		__u32 offset;

		/* Of a later fragment nothing more can be read. */
		if (p->flags & PACKET_FRAGMENT_LATER)
			return REASON_NONE;
		if (p->protocol == PROTO_MOBILITY || p->protocol == PROTO_HIP || p->protocol == PROTO_SHIM6)
			return REASON_EXTENSION_HEADER;
		if (p->protocol != PROTO_HOP_BY_HOP && p->protocol != PROTO_DESTINATION &&
		    p->protocol != PROTO_ROUTING && p->protocol != PROTO_FRAGMENT)
			return REASON_NONE;
		/* Behind a first fragment's header: a later one could overlap what follows, or a second such
		 * header hide ports from us that the receiver sees. */
		if (p->flags & PACKET_FRAGMENT_FIRST)
			return REASON_EXTENSION_HEADER;
		if (p->transport + 8 > p->end || read_packet(skb, p->transport, header, 8))
			return REASON_MALFORMED;
		/* A routing header still to be followed changes the destination after we judged it. */
		if (p->protocol == PROTO_ROUTING && header[3])
			return REASON_EXTENSION_HEADER;
		if (p->protocol == PROTO_FRAGMENT) {
			offset = be16(header + 2);
			p->fragment_id = be32(header + 4);
			if (offset >> 3)
				p->flags |= PACKET_FRAGMENT_LATER;
			else if (offset & 1)
				p->flags |= PACKET_FRAGMENT_FIRST;
			/* Whatever it says of its protocol: receivers go by the first one's word. */
			if (offset >> 3 == 1)
				return REASON_FRAGMENT_TINY;
			p->transport += 8;
		} else {
			p->transport += 8 + header[1] * 8;
		}
		if (p->transport > p->end)
			return REASON_MALFORMED;
		p->protocol = header[0];
	}
	return REASON_EXTENSION_HEADER;
}

static __always_inline int v4_mapped(const __u32 *words)
{
	return words[0] == 0 && words[1] == 0 && words[2] == bpf_htonl(0xffff);
}

static __always_inline int parse_v6(struct __sk_buff *skb, struct context *c, struct packet *p, __u32 room)
{
	__u8 *ip = c->bytes;
	__u32 length;

	if (read_packet(skb, p->network, ip, 40) || ip[0] >> 4 != 6)
		return REASON_MALFORMED;
	length = 40 + be16(ip + 4);
	if (length == 40 && room > 0xffff)
		length = room;
	if (length > room)
		return REASON_MALFORMED;
	p->source.family = p->destination.family = 6;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		p->source.w[i] = wire32(ip + 8 + 4 * i);
		p->destination.w[i] = wire32(ip + 24 + 4 * i);
	}
	p->protocol = ip[6];
	p->ttl = ip[7];
	p->transport = p->network + 40;
	p->end = p->network + length;
	if (v4_mapped(p->source.w) || v4_mapped(p->destination.w))
		return REASON_V4_MAPPED;
	return parse_extensions(skb, c, p);
}

static __always_inline int icmp_error(__u8 family, __u8 type)
{
	if (family == 6)
		return type >= 1 && type <= 4;
	return type == 3 || type == 4 || type == V4_REDIRECT || type == 11 || type == 12;
}

static __always_inline void parse_icmp(struct packet *p, const __u8 *header)
{
	__u8 type = header[0];
	__u8 v6 = p->source.family == 6;

	p->source_port = 0;
	p->destination_port = be16(header);
	if (type == (v6 ? 128 : 8))
		p->flags |= PACKET_ECHO_REQUEST;
	else if (type == (v6 ? 129 : 0))
		p->flags |= PACKET_ECHO_REPLY;
	if (p->flags & (PACKET_ECHO_REQUEST | PACKET_ECHO_REPLY))
		p->echo_id = be16(header + 4);
	if (icmp_error(p->source.family, type))
		p->flags |= PACKET_ICMP_ERROR;
	/* RFC 4861: neighbour messages are valid only with a hop limit no router has lowered. MLD: 130-132,
	 * 143. */
	if (v6 && ((type >= 133 && type <= 137) || (type >= 130 && type <= 132) || type == 143))
		p->flags |= PACKET_NEIGHBOUR;
}

/* A whole TCP header, of which at least 20 bytes are there. `short_reason`: what it is where the rest is not.
 */
static __always_inline int parse_tcp(struct __sk_buff *skb, struct context *c, struct packet *p,
				     __u32 short_reason)
{
	__u8 *header = c->bytes;
	__u32 data;

	if (read_packet(skb, p->transport, header, 14))
		return REASON_MALFORMED;
	p->source_port = be16(header);
	p->destination_port = be16(header + 2);
	p->segment.sequence = be32(header + 4);
	p->segment.acknowledged = be32(header + 8);
	p->tcp_flags = header[13];
	data = p->transport + (header[12] >> 4) * 4;
	if ((header[12] >> 4) < 5 || data > p->end)
		return short_reason;
	/* No stack sends these; they are probes. */
	if ((p->tcp_flags & TCP_SYN) && (p->tcp_flags & (TCP_FIN | TCP_RST)))
		return REASON_MALFORMED;
	p->segment.end = p->segment.sequence + 1;
	if (!(p->tcp_flags & TCP_SYN))
		p->segment.end = p->segment.sequence + (p->end - data) + !!(p->tcp_flags & TCP_FIN);
	return REASON_NONE;
}

/* How much of the transport header must be there; of an ICMP error's inner packet, 8 bytes. */
static __always_inline __u32 least_of(const struct packet *p, __u32 inner)
{
	if (p->protocol == IPPROTO_TCP)
		return inner ? 8 : 20;
	if (p->protocol == IPPROTO_SCTP)
		return inner ? 8 : 12;
	return p->protocol == IPPROTO_UDP || is_icmp(p) ? 8 : 0;
}

/* Ports. */
static __always_inline int parse_transport(struct __sk_buff *skb, struct context *c, struct packet *p,
					   __u32 inner)
{
	__u8 *header = c->bytes;
	__u32 least = least_of(p, inner),
	      short_reason = p->flags & PACKET_FRAGMENT_FIRST ? REASON_FRAGMENT_TINY : REASON_MALFORMED;

	if (p->flags & PACKET_FRAGMENT_LATER) {
		p->flags |= PACKET_PORTS_UNKNOWN;
		return REASON_NONE;
	}
	if (least == 0)
		return REASON_NONE;
	if (p->transport + least > p->end)
		return short_reason;
	if (p->protocol == IPPROTO_TCP && !inner)
		return parse_tcp(skb, c, p, short_reason);
	if (read_packet(skb, p->transport, header, 8))
		return REASON_MALFORMED;
	if (is_icmp(p)) {
		parse_icmp(p, header);
		return REASON_NONE;
	}
	p->source_port = be16(header);
	p->destination_port = be16(header + 2);
	if (p->protocol == IPPROTO_UDP && !inner && be16(header + 4) != 0 && be16(header + 4) < 8)
		return REASON_MALFORMED;
	return REASON_NONE;
}

static __always_inline void clear_packet(struct packet *p, __u32 network)
{
	__builtin_memset(p, 0, sizeof(*p));
	p->network = network;
}

/* The packet of the frame. Ethernet header and ethertype are read already. */
__attribute__((noinline)) int parse_packet(struct __sk_buff *skb, struct context *c)
{
	__u32 room;
	int reason;

	c = own_context(c);
	if (!c)
		return REASON_TABLE_ERROR;
	clear_packet(&c->packet, ETH_HLEN);
	if (skb->len < ETH_HLEN)
		return REASON_MALFORMED;
	room = skb->len - ETH_HLEN;
	if (c->ethertype == ETH_P_IP)
		reason = parse_v4(skb, c, &c->packet, room);
	else
		reason = parse_v6(skb, c, &c->packet, room);
	if (reason)
		return reason;
	return parse_transport(skb, c, &c->packet, 0);
}

/* The packet that an ICMP error is about: as much of it as came back. */
__attribute__((noinline)) int parse_inner(struct __sk_buff *skb, struct context *c)
{
	__u32 network;
	int reason;

	c = own_context(c);
	if (!c)
		return REASON_TABLE_ERROR;
	network = c->packet.transport + 8;
	if (network > 0xffff || network >= c->packet.end)
		return REASON_ICMP_UNRELATED;
	clear_packet(&c->inner, network);
	/* The inner packet's length is that of the whole packet, most of which is not here. */
	if (c->packet.source.family == 4)
		reason = parse_v4(skb, c, &c->inner, 0x1ffff);
	else
		reason = parse_v6(skb, c, &c->inner, 0x1ffff);
	if (reason)
		return REASON_ICMP_UNRELATED;
	reason = parse_transport(skb, c, &c->inner, 1);
	if (reason || (c->inner.flags & (PACKET_PORTS_UNKNOWN | PACKET_ICMP_ERROR)))
		return REASON_ICMP_UNRELATED;
	/* What follows the outer packet is padding, and nobody's word. */
	if (c->inner.transport + least_of(&c->inner, 1) > c->packet.end)
		return REASON_ICMP_UNRELATED;
	return REASON_NONE;
}

#endif

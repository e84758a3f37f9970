/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What tells a pod at once that nobody serves: a reset, or an ICMP error, made of its own packet and sent
 * back into its end of its link. No larger than what it answers, but for headers; and no more of them than
 * its interface has tokens for. */
#ifndef MOAT_REFUSE_H
#define MOAT_REFUSE_H

#include "deliver.h"

#define V4_HEADER 20
#define V6_HEADER 40
#define TCP_HEADER 20
#define ICMP_HEADER 8
#define QUOTED 8 /* of the transport header: its ports */
#define HOP_LIMIT 64
#define V4_UNREACHABLE 3
#define V6_UNREACHABLE 1
#define V4_PORT 3
#define V6_PORT 4

static __always_inline void put16(__u8 *at, __u16 value)
{
	at[0] = value >> 8;
	at[1] = value;
}

static __always_inline void put32(__u8 *at, __u32 value)
{
	put16(at, value >> 16);
	put16(at + 2, value);
}

/* Sum of bytes as on the wire, added to a sum. `length`: a multiple of 4. */
static __always_inline __u32 add_sum(__u32 sum, void *bytes, __u32 length)
{
	return bpf_csum_diff(0, 0, bytes, length, sum);
}

static __always_inline __u16 fold_sum(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* Of what sums of the transport are over beside its own bytes (RFC 9293, section 3.1; RFC 8200, section 8.1).
 */
static __always_inline __u32 ends_sum(struct context *c, __u32 protocol, __u32 length)
{
	__u32 rest[2] = {bpf_htonl(length), bpf_htonl(protocol)};
	__u32 sum = add_sum(0, rest, sizeof(rest));

	sum = add_sum(sum, c->packet.source.w, sizeof(c->packet.source.w));
	return add_sum(sum, c->packet.destination.w, sizeof(c->packet.destination.w));
}

static __always_inline void put_sum(__u8 *at, __u16 sum)
{
	*(__u16 *)at = sum;
}

/* Ethernet and IP headers of an answer to the packet, in c->made. Returns where the rest begins. */
static __always_inline __u32 begin_answer(struct context *c, __u32 protocol, __u32 length)
{
	struct packet *p = &c->packet;
	__u8 *ip = c->made + ETH_HLEN;

	__builtin_memset(c->made, 0, sizeof(c->made));
	__builtin_memcpy(c->made, c->ethernet + 6, 6);
	__builtin_memcpy(c->made + 6, c->ethernet, 6);
	put16(c->made + 12, p->source.family == 4 ? ETH_P_IP : ETH_P_IPV6);
	if (p->source.family == 4) {
		ip[0] = 0x45;
		put16(ip + 2, V4_HEADER + length);
		ip[6] = 0x40; /* in one piece */
		ip[8] = HOP_LIMIT;
		ip[9] = protocol;
		__builtin_memcpy(ip + 12, p->destination.w, 4);
		__builtin_memcpy(ip + 16, p->source.w, 4);
		/* From an even place on: a buffer of the answer's own. */
		__builtin_memcpy(c->bytes, ip, V4_HEADER);
		put_sum(ip + 10, ~fold_sum(add_sum(0, c->bytes, V4_HEADER)));
		return ETH_HLEN + V4_HEADER;
	}
	ip[0] = 0x60;
	put16(ip + 4, length);
	ip[6] = protocol;
	ip[7] = HOP_LIMIT;
	__builtin_memcpy(ip + 8, p->destination.w, 16);
	__builtin_memcpy(ip + 24, p->source.w, 16);
	return ETH_HLEN + V6_HEADER;
}

/* RFC 9293, section 3.10.7.1: what opens a connection nowhere is answered by a reset that acknowledges its
 * SYN. `late`: a device still makes the sum, and wants that of the ends in its place. */
static __always_inline long make_reset(struct __sk_buff *skb, struct context *c, __u32 late)
{
	__u32 at = begin_answer(c, IPPROTO_TCP, TCP_HEADER), sum;
	struct packet *p = &c->packet;
	__u8 *header = c->bytes;

	if (p->transport != at || !is_syn(p))
		return -1;
	__builtin_memset(header, 0, TCP_HEADER);
	put16(header, p->destination_port);
	put16(header + 2, p->source_port);
	put32(header + 8, p->segment.end);
	header[12] = TCP_HEADER << 2;
	header[13] = TCP_RST | TCP_ACK;
	sum = ends_sum(c, IPPROTO_TCP, TCP_HEADER);
	put_sum(header + 16, late ? fold_sum(sum) : ~fold_sum(add_sum(sum, header, TCP_HEADER)));
	if (bpf_skb_change_tail(skb, at + TCP_HEADER, 0))
		return -1;
	if (p->source.family == 4) {
		__builtin_memcpy(c->made + ETH_HLEN + V4_HEADER, header, TCP_HEADER);
		return bpf_skb_store_bytes(skb, 0, c->made, ETH_HLEN + V4_HEADER + TCP_HEADER, 0);
	}
	__builtin_memcpy(c->made + ETH_HLEN + V6_HEADER, header, TCP_HEADER);
	return bpf_skb_store_bytes(skb, 0, c->made, ETH_HLEN + V6_HEADER + TCP_HEADER, 0);
}

/* RFC 792, and RFC 4443, section 3.1: port unreachable, about the packet's header and the first bytes behind
 * it. `family` is known when this is compiled. */
static __always_inline long make_unreachable(struct __sk_buff *skb, struct context *c, const __u32 family)
{
	const __u32 ip = family == 4 ? V4_HEADER : V6_HEADER, quoted = ip + QUOTED, at = ETH_HLEN + ip;
	const __u32 protocol = family == 4 ? IPPROTO_ICMP : PROTO_ICMPV6, length = ICMP_HEADER + quoted;
	__u8 *header = c->bytes;
	__u32 sum;

	begin_answer(c, protocol, length);
	__builtin_memset(header, 0, ICMP_HEADER);
	header[0] = family == 4 ? V4_UNREACHABLE : V6_UNREACHABLE;
	header[1] = family == 4 ? V4_PORT : V6_PORT;
	if (bpf_skb_load_bytes(skb, ETH_HLEN, header + ICMP_HEADER, quoted))
		return -1;
	/* ICMPv6's is over the addresses, too. */
	sum = family == 4 ? 0 : ends_sum(c, protocol, length);
	put_sum(header + 2, ~fold_sum(add_sum(sum, header, length)));
	__builtin_memcpy(c->made + at, header, ICMP_HEADER);
	return bpf_skb_change_tail(skb, ETH_HLEN + quoted, 0) ||
	       bpf_skb_adjust_room(skb, ip + ICMP_HEADER, BPF_ADJ_ROOM_MAC, 0) ||
	       bpf_skb_store_bytes(skb, 0, c->made, at + ICMP_HEADER, 0);
}

/*
 * The packet that a pod sent becomes the answer to it, and enters the pod. Of what has options, extension
 * headers, or is a part of a datagram but the first nobody is told. `late`: its transport's sum is still to
 * be made. Returns a verdict.
 */
__attribute__((noinline)) int refuse(struct __sk_buff *skb, struct context *c, __u32 late)
{
	struct packet *p;
	long failed;

	c = own_context(c);
	if (!c)
		return TCX_DROP;
	p = &c->packet;
	if ((p->flags & PACKET_FRAGMENT_LATER) ||
	    p->transport != ETH_HLEN + (p->source.family == 4 ? V4_HEADER : V6_HEADER) ||
	    !take_token(c, share_of(c->ifindex), BUDGET_REFUSALS, refusal_rate))
		return TCX_DROP;
	if (p->protocol == IPPROTO_TCP)
		failed = make_reset(skb, c, late);
	else if (p->source.family == 4)
		failed = make_unreachable(skb, c, 4);
	else
		failed = make_unreachable(skb, c, 6);
	if (failed || bpf_skb_change_type(skb, PACKET_FOR_US))
		return TCX_DROP;
	skb->mark = 0;
	return bpf_redirect_peer(c->ifindex, 0);
}

#endif

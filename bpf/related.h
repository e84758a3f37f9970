/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ICMP errors by the packet they are about, and fragments by the first of their datagram. */
#ifndef MOAT_RELATED_H
#define MOAT_RELATED_H

#include "flow.h"
#include "quoted.h"

/* What audit let through is judged anew, as the flow's own packets are: no verdict on it is ever current. The
 * flow's own packets tell of it. */
static __always_inline int inner_leg_stands(struct context *c, __u32 leg, const struct endpoint *owner,
					    const struct addr *peer)
{
	int reason;

	if (!owner->ifindex || c->entry.verdict[leg] != VERDICT_AUDIT)
		return leg_is_current(c, leg, owner, peer);
	c->position = c->entry.position;
	reason = judge_leg(c, leg, owner, peer);
	c->rule[leg] = c->audited[leg] = 0;
	return !reason;
}

/* The flow of the inner packet, seen as if its receiver answered: alive, its owners the same, its verdicts
 * current. */
static __always_inline int inner_flow_stands(struct context *c, __u32 from_initiator)
{
	const struct endpoint *initiator = from_initiator ? &c->source : &c->destination;
	const struct endpoint *responder = from_initiator ? &c->destination : &c->source;
	const struct addr *from = from_initiator ? &c->inner.destination : &c->inner.source;
	const struct addr *to = from_initiator ? &c->inner.source : &c->inner.destination;

	if (is_expired(c) || is_inherited(c, LEG_EGRESS, initiator) ||
	    is_inherited(c, LEG_INGRESS, responder))
		return 0;
	if (c->entry.flags & ENTRY_HOST)
		return 1;
	return inner_leg_stands(c, LEG_EGRESS, initiator, to) &&
	       inner_leg_stands(c, LEG_INGRESS, responder, from);
}

/* An error passes where the flow it is about is alive and allowed; it refreshes nothing. One about a flow to
 * a Service tells each end of what that end knows. */
__attribute__((noinline)) int judge_icmp_error(struct __sk_buff *skb, struct context *c)
{
	struct packet *outer, *inner;
	__u32 from_initiator, forth = 0;

	c = own_context(c);
	if (!c)
		return REASON_TABLE_ERROR;
	outer = &c->packet;
	inner = &c->inner;
	/* Only the first router may send somebody elsewhere, and that is this node; for IPv6 it is NDP. */
	if (outer->source.family == 4 && outer->destination_port >> 8 == V4_REDIRECT && !c->own_node)
		return REASON_SPOOFED_NEIGHBOUR;
	if (parse_inner(skb, c))
		return c->own_node ? REASON_NONE : REASON_ICMP_UNRELATED;
	if (!addr_equal(&inner->source, &outer->destination))
		return REASON_ICMP_UNRELATED;
	/* A pod speaks only of packets that were sent to itself. */
	if (c->hook == HOOK_FROM_POD && !addr_equal(&inner->destination, &outer->source))
		return REASON_ICMP_UNRELATED;
	make_key(c, inner);
	if (may_quote_service(c) && recall_quoted(c)) {
		forth = 1;
		make_key(c, inner);
	}
	/* Of what comes back to its sender, nobody tells. */
	if (equal_words(c->key.address[0], c->key.address[1]))
		return REASON_ICMP_UNRELATED;
	/* The endpoints of the inner flow: at the error's source there may be a router. */
	if (find_endpoint(c, &inner->source, &c->destination) ||
	    find_endpoint(c, &inner->destination, &c->source))
		return REASON_TABLE_ERROR;
	if (!find_entry_surely(c) || (c->entry.flags & ENTRY_TOMBSTONE))
		return c->own_node ? REASON_NONE : REASON_ICMP_UNRELATED;
	from_initiator = c->side != c->entry.initiator;
	/* What quotes a translated packet is translated as well. */
	c->direct = c->entry.flags & ENTRY_DIRECT;
	if (!inner_flow_stands(c, from_initiator))
		return c->own_node ? REASON_NONE : REASON_ICMP_UNRELATED;
	if (!(c->entry.flags & ENTRY_SERVICE))
		return forth ? REASON_ICMP_UNRELATED : REASON_NONE;
	/* Its later fragments would keep the addresses that they have. */
	if ((outer->flags & PACKET_FRAGMENT_FIRST) ||
	    (forth && !is_meant(&c->entry, !c->side, &c->meant, c->meant_side)))
		return REASON_ICMP_UNRELATED;
	if (forth)
		return quote_forth(skb, c) ? REASON_MALFORMED : REASON_NONE;
	c->back = is_answer(c, from_initiator);
	note_original(c, &c->entry);
	return REASON_NONE;
}

static __always_inline void make_fragment_key(struct context *c)
{
	const struct packet *p = &c->packet;

	__builtin_memset(&c->key, 0, sizeof(c->key));
	c->key.family = p->source.family | KEY_FRAGMENT;
	c->key.protocol = p->protocol;
	c->key.port[0] = p->fragment_id >> 16;
	c->key.port[1] = p->fragment_id;
	__builtin_memcpy(c->key.address[0], p->source.w, sizeof(p->source.w));
	/* As its sender wrote it: that is what later ones have. */
	if (c->service)
		__builtin_memcpy(c->key.address[1], c->meant_address.w, sizeof(c->meant_address.w));
	else
		__builtin_memcpy(c->key.address[1], p->destination.w, sizeof(p->destination.w));
	c->key_tag = ct_tag(&c->key);
}

/* Gives a later fragment the ports of its first one. */
static __always_inline void recall_fragment(struct context *c)
{
	make_fragment_key(c);
	if (!find_entry_surely(c) || is_expired(c))
		return;
	c->packet.source_port = c->entry.original_port;
	c->packet.destination_port = c->entry.position;
	c->packet.flags &= ~PACKET_PORTS_UNKNOWN;
	if (!is_icmp(&c->packet))
		return;
	c->packet.echo_id = c->packet.source_port;
	c->packet.source_port = 0;
	if (c->packet.destination_port >> 8 == (c->packet.source.family == 6 ? 128 : 8))
		c->packet.flags |= PACKET_ECHO_REQUEST;
	if (c->packet.destination_port >> 8 == (c->packet.source.family == 6 ? 129 : 0))
		c->packet.flags |= PACKET_ECHO_REPLY;
}

/* Only a first fragment that passed speaks for the rest of its datagram; where there is no room for it, the
 * rest is judged without it. */
static __always_inline void remember_fragment(struct context *c)
{
	/* An earlier datagram's word under the same id gives way. */
	make_fragment_key(c);
	find_entry(c);
	__builtin_memset(&c->entry, 0, sizeof(c->entry));
	c->entry.original_port = is_icmp(&c->packet) ? c->packet.echo_id : c->packet.source_port;
	c->entry.position = c->service ? c->meant_port : c->packet.destination_port;
	c->entry.initiator = c->side;
	date_entry(c);
	write_fresh(c, 0);
}

#endif

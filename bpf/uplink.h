/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What arrives at one of the node's uplinks and may go straight into its pod: ordinary packets. Nothing is
 * dropped here and no drop is reported: all else goes on to the stack untouched, and what is for a pod is
 * judged at the pod's own hook. So a packet is judged past the stack only where both hooks would say the
 * same.
 */
#ifndef MOAT_UPLINK_H
#define MOAT_UPLINK_H

#include "deliver.h"
#include "flow.h"

/* The ends: a ready pod here, whose interface the packet fits, and somebody who is not here. A pod's own
 * address from outside is a forgery. */
static __always_inline int find_ends(struct __sk_buff *skb, struct context *c)
{
	const struct packet *p = &c->packet;

	if (find_endpoint(c, &p->destination, &c->destination) || !is_ready(&c->destination) ||
	    !is_uplink(c->uplink, p->destination.family))
		return 0;
	if (p->ttl <= 1 || !may_enter(&c->destination, packet_length(skb, p)))
		return 0;
	if (is_nobody(&p->source))
		return 0;
	return !find_endpoint(c, &p->source, &c->source) && !c->source.ifindex;
}

/*
 * 1 where the packet may go straight into its pod. A flow is opened here by TCP alone, whose first packet
 * tells itself. A datagram may answer what the stack translated on its way out: it takes the stack, and only
 * if it comes out of it as it went in, its flow goes past it.
 */
static __always_inline int judge_arrival(struct __sk_buff *skb, struct context *c)
{
	const struct packet *p = &c->packet;
	struct ct_value *live = find_entry(c);
	__u32 from_initiator;

	if (c->found == FOUND_TORN)
		return 0;
	from_initiator = c->side == c->entry.initiator;
	if (live && !is_dead(c, from_initiator) &&
	    !(is_syn(p) && (c->entry.tcp == TCP_CLOSING || (c->entry.flags & ENTRY_TOMBSTONE)))) {
		if (!(c->entry.flags & ENTRY_DIRECT) || (is_syn(p) && !from_initiator))
			return 0;
		/* Until its responder has answered, there is no more to a connection than its SYN. */
		if (p->protocol == IPPROTO_TCP && from_initiator && !is_syn(p) &&
		    c->entry.tcp != TCP_SYN_ACKED && c->entry.tcp != TCP_OPEN)
			return 0;
		if (!continue_flow(skb, c, live, from_initiator))
			return 1;
		remember_wire(c);
		return 0;
	}
	if (is_syn(p))
		return is_symmetric(skb, c, c->uplink) && !open_flow(skb, c, 0);
	if (p->protocol != IPPROTO_TCP)
		remember_wire(c);
	return 0;
}

#endif

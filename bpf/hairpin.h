/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A pod that asks a Service and is its backend itself. No host takes a packet from its own address, so that
 * it comes to the pod from one that nobody has, and so does the pod answer there. In the tables the flow is
 * one between two ports of the pod: what it sends to itself is never seen here. Both ways lead past the
 * stack. */
#ifndef MOAT_HAIRPIN_H
#define MOAT_HAIRPIN_H

#include "ends.h"
#include "flow.h"

/* Whether the packet, sent to a Service, may come back to the pod as one to the backend in c->translation. Of
 * two ports that are one, neither would be the initiator's. */
static __always_inline int may_turn(const struct context *c)
{
	return c->hook == HOOK_FROM_POD && (c->source.flags & ENDPOINT_PLAIN) && may_skip_stack(&c->packet) &&
	       c->packet.source_port != c->translation.port;
}

/* What the pod sends comes from elsewhere. Returns 0 where all of it does. */
__attribute__((noinline)) int turn_source(struct __sk_buff *skb, struct context *c)
{
	struct end_change end = {};
	struct addr elsewhere = {};
	struct packet *p;

	c = own_context(c);
	if (!c)
		return -1;
	p = &c->packet;
	elsewhere.family = p->source.family;
	make_hairpin(&elsewhere);
	end.from = p->source.w;
	end.to = elsewhere.w;
	end.from_port = end.to_port = p->source_port;
	end.address_at = p->network + (p->source.family == 4 ? 12 : 8);
	end.port_at = p->transport;
	return change_end(skb, p, &end, sum_offset(p), BPF_F_PSEUDO_HDR) ? -1 : 0;
}

/* And what it answers is for itself. */
__attribute__((noinline)) int turn_destination(struct __sk_buff *skb, struct context *c)
{
	struct end_change end = {};
	struct addr elsewhere = {};
	struct packet *p;

	c = own_context(c);
	if (!c)
		return -1;
	p = &c->packet;
	elsewhere.family = p->source.family;
	make_hairpin(&elsewhere);
	end.from = elsewhere.w;
	end.to = p->destination.w;
	end.from_port = end.to_port = p->destination_port;
	end.address_at = p->network + (p->source.family == 4 ? 16 : 24);
	end.port_at = p->transport + 2;
	return change_end(skb, p, &end, sum_offset(p), BPF_F_PSEUDO_HDR) ? -1 : 0;
}

#endif

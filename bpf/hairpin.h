/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A pod that asks a Service and is its backend itself. No host takes a packet from its own address, so that
 * it comes to the pod from one that nobody has (alias.h), and so does the pod answer there. In the tables the
 * flow is one between two ports of the pod: what it sends to itself is never seen here. Both ways lead past
 * the stack. */
#ifndef MOAT_HAIRPIN_H
#define MOAT_HAIRPIN_H

#include "alias.h"
#include "flow.h"

/* Whether the packet, sent to a Service, may come back to the pod as one to the backend in c->translation. Of
 * two ports that are one, neither would be the initiator's. */
static __always_inline int may_turn(const struct context *c)
{
	return c->hook == HOOK_FROM_POD && (c->source.flags & ENDPOINT_PLAIN) && may_skip_stack(&c->packet) &&
	       c->packet.source_port != c->translation.port;
}

/* The pod speaks, or is spoken to, by the address that nobody has, and by the port of its own. */
static __always_inline void begin_hairpin(struct context *c, enum hairpin way, __u32 port)
{
	c->hairpin = way;
	c->alias.family = c->packet.source.family;
	make_hairpin(&c->alias);
	c->alias_port = port;
}

#endif

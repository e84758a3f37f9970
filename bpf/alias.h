/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A client of a Service whom its backend can't know by its own address has an alias there, c->alias and its
 * port: what it sends comes from there, and what is sent there is for itself. */
#ifndef MOAT_ALIAS_H
#define MOAT_ALIAS_H

#include "ends.h"

/* From c->packet's source to its alias. Returns 0 where all of it was done. */
__attribute__((noinline)) int put_alias(struct __sk_buff *skb, struct context *c)
{
	struct end_change end = {};
	struct packet *p;

	c = own_context(c);
	if (!c)
		return -1;
	p = &c->packet;
	end.from = p->source.w;
	end.to = c->alias.w;
	end.from_port = p->source_port;
	end.to_port = c->alias_port;
	end.address_at = p->network + (p->source.family == 4 ? 12 : 8);
	end.port_at = p->transport;
	return change_end(skb, p, &end, sum_offset(p), BPF_F_PSEUDO_HDR) ? -1 : 0;
}

/* From an alias to c->packet's destination, whose alias it is. Returns 0 where all of it was done. */
__attribute__((noinline)) int lift_alias(struct __sk_buff *skb, struct context *c)
{
	struct end_change end = {};
	struct packet *p;

	c = own_context(c);
	if (!c)
		return -1;
	p = &c->packet;
	end.from = c->alias.w;
	end.to = p->destination.w;
	end.from_port = c->alias_port;
	end.to_port = p->destination_port;
	end.address_at = p->network + (p->source.family == 4 ? 16 : 24);
	end.port_at = p->transport + 2;
	return change_end(skb, p, &end, sum_offset(p), BPF_F_PSEUDO_HDR) ? -1 : 0;
}

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* As whom this node asks a backend of another one for a client outside (forward.h): by its own address, and a
 * port that is no other client's at that backend. */
#ifndef MOAT_SELF_H
#define MOAT_SELF_H

#include "alias.h"
#include "flow.h"

#define SELF_PORTS 61000 /* the first; behind ip_local_port_range as Linux has it */
#define SELF_PORT_COUNT (65536 - SELF_PORTS)
#define SELF_PORTS_TRIED 16

/* A backend that is not here is asked by the node itself, where it does so for this family. Returns 0 where
 * it is here, -1 where nobody can ask it. */
static __always_inline int speaks_for(struct context *c)
{
	struct addr backend = {.family = c->packet.source.family};
	struct state *state = node_state();

	__builtin_memcpy(backend.w, c->translation.address, sizeof(backend.w));
	if (!state || find_endpoint(c, &backend, &c->destination))
		return -1;
	if (c->destination.ifindex)
		return 0;
	/* What it listens to by itself no hook would send back. */
	if (is_node_address(&backend))
		return -1;
	__builtin_memset(c->translation.self, 0, sizeof(c->translation.self));
	if (backend.family == 4)
		c->translation.self[0] = state->self4;
	else
		__builtin_memcpy(c->translation.self, &state->self6_first, sizeof(c->translation.self));
	return c->translation.self[0] || c->translation.self[3] ? 1 : -1;
}

enum self_port { PORT_TAKEN, PORT_CLOSING, PORT_FREE };

/* Whether somebody else than c->meant asks the backend in c->translation by the port there. */
__attribute__((noinline)) int look_at_port(struct context *c)
{
	struct ct_value *flow;
	__u32 initiator;

	c = own_context(c);
	if (!c)
		return PORT_TAKEN;
	initiator = make_flow_key(&c->meant, &c->translation, &c->key);
	flow = bpf_map_lookup_elem(&ct_map, &c->key);
	if (!flow || is_stale(flow, &c->key, c->now) || is_meant(flow, initiator, &c->meant, c->meant_side))
		return PORT_FREE;
	return flow->tcp == TCP_CLOSING ? PORT_CLOSING : PORT_TAKEN;
}

/* The port by which the node asks the backend in c->translation for who is c->meant: one of a hash's and
 * those behind it by which nobody asks it now; else one of those whose connection is closing. Returns 0 where
 * there is none. */
__attribute__((noinline)) int take_self_port(struct context *c, __u32 hash)
{
	__u32 spare = 0;

	c = own_context(c);
	if (!c)
		return 0;
	for (int i = 0; i < SELF_PORTS_TRIED; i++) {
		int port;

		c->translation.self_port = SELF_PORTS + (hash + i) % SELF_PORT_COUNT;
		port = look_at_port(c);
		if (port == PORT_FREE)
			return 1;
		if (!spare && port == PORT_CLOSING)
			spare = c->translation.self_port;
	}
	c->translation.self_port = spare;
	return spare != 0;
}

/* Who asked reaches the backend as this node. Returns 0 where all of it was done. */
static __always_inline int change_asker(struct __sk_buff *skb, struct context *c)
{
	struct packet *p = &c->packet;

	c->alias = p->source;
	__builtin_memcpy(c->alias.w, c->translation.self, sizeof(c->alias.w));
	c->alias_port = c->translation.self_port;
	if (put_alias(skb, c))
		return -1;
	p->source = c->alias;
	p->source_port = c->alias_port;
	return 0;
}

#endif

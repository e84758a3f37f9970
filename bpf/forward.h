/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Clients outside whose backend is at another node: this node speaks for them, by its own address and a port
 * of its own (self.h), or the backend would answer somebody who never asked it. The flow in the tables is one
 * between this node and the backend, and its entry says who asked (translation.h). Neither end is here:
 * nobody is judged, and all of it goes past the stack. */
#ifndef MOAT_FORWARD_H
#define MOAT_FORWARD_H

#include "deliver.h"
#include "flow.h"

/* The client is reached by the uplink that it asked by. */
static __always_inline int is_reached(struct __sk_buff *skb, struct context *c)
{
	const struct ct_key *meant = &c->meant;
	__u32 side = c->meant_side & 1;

	ask_route(&c->route, c->packet.source.family, c->meant_address.w,
		  side ? meant->address[1] : meant->address[0]);
	c->route.l4_protocol = c->packet.protocol;
	c->route.sport = bpf_htons(side ? meant->port[0] : meant->port[1]);
	c->route.dport = bpf_htons(side ? meant->port[1] : meant->port[0]);
	c->route.ifindex = c->uplink;
	return answer_route(skb, &c->route) == c->uplink;
}

/* Whether the packet, one of this node to a backend by now, goes there. Returns a reason. */
static __always_inline int judge_forth(struct __sk_buff *skb, struct context *c)
{
	if (((c->packet.protocol != IPPROTO_TCP || is_syn(&c->packet)) && !is_reached(skb, c)) ||
	    !find_route(skb, c))
		return REASON_NO_BACKEND;
	return judge_packet(skb, c);
}

/* What comes to this node by one of those ports may be a backend's answer. */
static __always_inline int may_answer_self(const struct context *c)
{
	return c->packet.destination_port >= SELF_PORTS && has_marks();
}

/* The packet answers one that this node sent on for somebody. Its flow's entry is in c->entry then. */
static __always_inline struct ct_value *find_forwarded(struct context *c)
{
	struct ct_value *live = find_entry_surely(c);

	return live && is_elsewhere(&c->entry) && c->side != c->entry.initiator && !is_expired(c) ? live : 0;
}

/* A backend's answer becomes the Service's, to who asked. Returns a reason. */
__attribute__((noinline)) int judge_back(struct __sk_buff *skb, struct context *c, struct ct_value *live)
{
	struct packet *p;
	int reason;

	c = own_context(c);
	if (!c || !live)
		return REASON_TABLE_ERROR;
	p = &c->packet;
	if (p->ttl <= 1 || is_syn(p))
		return REASON_MID_FLOW;
	reason = continue_flow(skb, c, live, 0);
	if (reason)
		return reason;
	c->alias = p->destination;
	c->alias_port = p->destination_port;
	asker_of(&c->entry, p->destination.w);
	p->destination_port = c->entry.asker_port;
	c->forward = 1;
	if (translate_back(skb, c))
		return REASON_MALFORMED;
	p->source = c->meant_address;
	p->source.family = p->destination.family;
	p->source_port = c->meant_port;
	return find_route(skb, c) ? REASON_NONE : REASON_NO_BACKEND;
}

/* No pod's interface has met it: it is counted, and no event tells of it. */
static __always_inline int drop_at_uplink(int reason)
{
	struct counters *counters = node_counters();
	/* Without a sign, or kernels such as 6.1 take it for a number that may be below 0. */
	__u64 number = (__u32)reason;

	if (counters && number < REASON_COUNT)
		counters->drops[number]++;
	return TCX_DROP;
}

/* From one of the node's uplinks by another one, or the same, past the stack. */
static __always_inline int send_forward(struct __sk_buff *skb, struct context *c)
{
	struct counters *counters = node_counters();

	if (counters)
		counters->forwarded++;
	return leave_node(skb, c);
}

/* Returns the verdict of an answer to what this node sent on. */
static __always_inline int serve_back(struct __sk_buff *skb, struct context *c, struct ct_value *live)
{
	int reason;

	c->source.ifindex = c->destination.ifindex = 0;
	reason = judge_back(skb, c, live);
	if (!c->bypass && is_closed())
		reason = REASON_TABLE_ERROR;
	return reason ? drop_at_uplink(reason) : send_forward(skb, c);
}

#endif

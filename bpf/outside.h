/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Services for clients outside of the node: what arrives at an uplink for a node port, a balancer's address
 * or an external one enters a pod of this node, with its client's own address. Nobody else would translate
 * it, so that what is not let in here is dropped here; nor does the stack answer for it. */
#ifndef MOAT_OUTSIDE_H
#define MOAT_OUTSIDE_H

#include "deliver.h"
#include "flow.h"
#include "forward.h"

#define NOT_SERVED (-2)

/* As may_be_service(), of what arrives where packets may go past the stack both ways. */
static __always_inline int may_be_outside(const struct context *c)
{
	return has_marks() && is_marked(addr_tag(&c->packet.destination)) &&
	       is_uplink(c->uplink, c->packet.destination.family);
}

/* A connection by the Service stands here: whoever says that it begins anew is asked for its flow. */
static __always_inline int is_open_outside(struct context *c)
{
	struct ct_value *flow;
	__u32 initiator;

	if (!find_translation(c))
		return 0;
	if (!is_syn(&c->packet))
		return 1;
	initiator = make_flow_key(&c->meant, &c->translation, &c->key);
	flow = bpf_map_lookup_elem(&ct_map, &c->key);
	return flow && !is_stale(flow, &c->key, c->now) && flow->tcp == TCP_OPEN &&
	       is_meant(flow, initiator, &c->meant, c->meant_side);
}

/* Whether these programs serve where the packet asks. What can't be told counts for it. */
static __always_inline int is_served_outside(const struct context *c)
{
	struct service_key key = {
	    .address = c->packet.destination,
	    .port = c->packet.destination_port,
	    .protocol = c->packet.protocol,
	    .scope = SCOPE_OUTSIDE,
	};
	int torn;

	return find_service(&key, c->changes, &torn) || torn;
}

/* A segment that can't go past the stack (TTL, options, fragments, somebody's program), of a connection by a
 * Service or to open one here: the stack knows of no such connection, and would reset it. */
__attribute__((noinline)) int would_be_reset(struct context *c)
{
	struct packet *p;

	c = own_context(c);
	if (!c)
		return 0;
	p = &c->packet;
	if (!(p->flags & PACKET_PORTS_UNKNOWN) && may_answer_self(c)) {
		make_key(c, p);
		if (find_forwarded(c))
			return 1;
	}
	if (p->protocol != IPPROTO_TCP || (p->flags & PACKET_PORTS_UNKNOWN) || !has_marks() ||
	    !is_marked(addr_tag(&p->destination)) || find_endpoint(c, &p->destination, &c->destination) ||
	    c->destination.ifindex)
		return 0;
	make_key(c, p);
	c->meant = c->key;
	c->meant_tag = c->key_tag;
	c->meant_side = c->side;
	return is_open_outside(c) ||
	       (is_syn(p) && is_uplink(c->uplink, p->destination.family) && is_served_outside(c));
}

/* The stack has what nobody took before, but for what it would answer by a reset. */
static __always_inline int leave_to_stack(struct context *c)
{
	struct counters *counters = node_counters();

	if (!would_be_reset(c))
		return TCX_NEXT;
	if (counters)
		counters->drops[REASON_NO_BACKEND]++;
	return TCX_DROP;
}

/* Somebody who is not here asks for an address that is no pod's here. */
static __always_inline int is_from_outside(struct context *c)
{
	struct packet *p = &c->packet;

	if (p->ttl <= 1 || is_nobody(&p->source) || is_node_address(&p->source) ||
	    find_endpoint(c, &p->destination, &c->destination) || c->destination.ifindex ||
	    find_endpoint(c, &p->source, &c->source) || c->source.ifindex)
		return 0;
	/* That of whose packet was judged before. */
	__builtin_memset(&c->source.self, 0, sizeof(c->source.self));
	return 1;
}

/* Whether the packet, one to a pod by now, may be let into it. Returns a reason. */
static __always_inline int judge_outside(struct __sk_buff *skb, struct context *c)
{
	if (!is_ready(&c->destination))
		return REASON_NO_ENDPOINT;
	c->ifindex = c->destination.ifindex;
	/* Where this runs, this version's programs are at the pods before (upgrade.ts), whatever others may
	 * be skipped. Answers leave by the way that it came, or not at all: asked of all that may open a
	 * flow. */
	if (!(c->destination.flags & ENDPOINT_PLAIN) || packet_length(skb, &c->packet) > c->destination.mtu ||
	    ((c->packet.protocol != IPPROTO_TCP || is_syn(&c->packet)) && !is_symmetric(skb, c, c->uplink)))
		return REASON_NO_BACKEND;
	return judge_packet(skb, c);
}

/* What is for a Service becomes one to a pod. Returns a reason, or NOT_SERVED where the packet is to none,
 * and as it came. */
__attribute__((noinline)) int translate_outside(struct __sk_buff *skb, struct context *c)
{
	int reason;

	c = own_context(c);
	if (!c || !is_from_outside(c))
		return NOT_SERVED;
	c->outside = SCOPE_OUTSIDE;
	reason = translate(skb, c);
	if (reason || c->service)
		return reason;
	c->outside = SCOPE_INSIDE;
	return NOT_SERVED;
}

/* Returns the verdict of what was translated for this reason. No function of its own: stacks have 8 frames.
 */
static __always_inline int serve_outside(struct __sk_buff *skb, struct context *c, int reason)
{
	struct counters *counters = node_counters();

	if (!reason)
		reason = c->forward ? judge_forth(skb, c) : judge_outside(skb, c);
	if (!reason && c->back)
		reason = REASON_NO_BACKEND;
	if (!c->bypass && is_closed())
		reason = REASON_TABLE_ERROR;
	if (reason && !c->destination.ifindex)
		return drop_at_uplink(reason);
	if (reason) {
		report_reason(c, reason);
		return TCX_DROP;
	}
	if (c->forward)
		return send_forward(skb, c);
	if (is_audited(c))
		report_audited(c);
	count_passed(c);
	if (counters)
		counters->delivered++;
	return enter_pod(skb, c);
}

#endif

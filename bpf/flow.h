/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Conntrack and policy: whether a packet whose source is proved passes. Returns a reason; none = pass. */
#ifndef MOAT_FLOW_H
#define MOAT_FLOW_H

#include "legs.h"
#include "progress.h"
#include "route.h"

/* A packet is counted once, at its sender's hook where that is local. */
static __always_inline int counts_here(const struct context *c)
{
	return c->hook == HOOK_FROM_POD || !c->source.ifindex;
}

/* Endpoints that had flows before Moat came are marked so, for a bounded time. */
static __always_inline int adopts(const struct context *c, const struct endpoint *endpoint)
{
	return !endpoint->ifindex || ((endpoint->flags & ENDPOINT_ADOPT) && c->now < endpoint->adopt_until);
}

static __always_inline int may_adopt(const struct context *c)
{
	return !c->own_node && !c->forward && !(c->packet.tcp_flags & TCP_RST) && adopts(c, &c->source) &&
	       adopts(c, &c->destination);
}

/* A connection older than Moat: who opened it is not known, so that either direction's verdict will do. */
static __always_inline int adopt_flow(struct context *c)
{
	struct packet *p = &c->packet;
	__u32 from_initiator = 1, audited;
	int reason;

	c->position = (__u32)p->protocol << 16 | p->destination_port;
	reason = judge_flow(c, 1);
	audited = !reason && is_audited(c);
	if (reason || audited) {
		c->position = (__u32)p->protocol << 16 | p->source_port;
		from_initiator = 0;
		reason = judge_flow(c, 0);
	}
	/* Allowed neither way: let through, it is the one that the packet goes. */
	if (audited && (reason || is_audited(c))) {
		c->position = (__u32)p->protocol << 16 | p->destination_port;
		from_initiator = 1;
		reason = judge_flow(c, 1);
	}
	if (reason)
		return reason;
	__builtin_memset(&c->entry, 0, sizeof(c->entry));
	fill_legs(c, from_initiator);
	c->entry.initiator = from_initiator ? c->side : !c->side;
	/* Established once the other side answers. */
	c->entry.tcp = from_initiator ? TCP_SYN_SENT : TCP_SYN_ACKED;
	begin_numbers(c, from_initiator);
	c->entry.position = c->position;
	date_entry(c);
	return write_fresh(c, !is_audited(c));
}

/* The packet opens a flow, if policy lets it. `keep`: an open connection of these ports stands already. */
__attribute__((noinline)) int open_flow(struct __sk_buff *skb, struct context *c, __u32 keep)
{
	struct packet *p;
	int reason = REASON_NONE;

	c = own_context(c);
	if (!c)
		return REASON_TABLE_ERROR;
	p = &c->packet;
	if (p->protocol == IPPROTO_TCP && !is_syn(p))
		return may_adopt(c) ? adopt_flow(c) : REASON_MID_FLOW;
	if (p->flags & PACKET_ECHO_REPLY)
		return REASON_MID_FLOW;
	c->position = (__u32)p->protocol << 16 | p->destination_port;
	c->reason[LEG_EGRESS] = c->reason[LEG_INGRESS] = 0;
	if (c->own_node) {
		if (!is_ready(&c->destination))
			return REASON_NO_ENDPOINT;
	} else {
		reason = judge_flow(c, 1);
	}
	if (reason || keep)
		return reason;
	__builtin_memset(&c->entry, 0, sizeof(c->entry));
	fill_legs(c, 1);
	c->entry.initiator = c->side;
	c->direct = opens_direct(skb, c);
	c->entry.flags = (c->own_node ? ENTRY_HOST : 0) | (c->direct ? ENTRY_DIRECT : 0);
	if (p->protocol == IPPROTO_TCP) {
		c->entry.tcp = TCP_SYN_SENT;
		begin_numbers(c, 1);
	}
	c->entry.position = c->position;
	c->entry.packets[0] = 1;
	c->entry.bytes[0] = skb->len;
	date_entry(c);
	if (c->service)
		note_service(c);
	if (c->forward)
		note_asker(&c->entry, c->meant_side & 1 ? c->meant.address[1] : c->meant.address[0],
			   c->meant_side & 1 ? c->meant.port[1] : c->meant.port[0]);
	reason = write_fresh(c, !is_audited(c) && !c->forward);
	return reason || !c->service ? reason : write_translation(c);
}

/* Writes a flow that was judged anew. Returns a reason. */
static __always_inline int write_judged(struct context *c)
{
	return c->found == FOUND_EARLIER ? write_earlier(c) : write_again(c);
}

/* Denied by a recheck: the entry becomes a tombstone, which no packet removes. */
static __always_inline void bury(struct context *c, __u32 from_initiator)
{
	fill_legs(c, from_initiator);
	c->entry.flags |= ENTRY_TOMBSTONE;
	c->entry.last_seen = c->now;
	write_judged(c);
}

static __always_inline int is_dead(const struct context *c, __u32 from_initiator)
{
	const struct endpoint *initiator = from_initiator ? &c->source : &c->destination;
	const struct endpoint *responder = from_initiator ? &c->destination : &c->source;

	if (is_expired(c) || is_inherited(c, LEG_EGRESS, initiator) ||
	    is_inherited(c, LEG_INGRESS, responder))
		return 1;
	/* What the node itself opened passes only while it still comes from the node itself, and the other
	 * way round. */
	return c->hook == HOOK_TO_POD && from_initiator && !c->own_node != !(c->entry.flags & ENTRY_HOST);
}

static __always_inline void name_rules(struct context *c)
{
	c->rule[LEG_EGRESS] = c->entry.leg[LEG_EGRESS].rule;
	c->rule[LEG_INGRESS] = c->entry.leg[LEG_INGRESS].rule;
	c->denied_leg = c->entry.verdict[LEG_EGRESS] == VERDICT_DENY    ? 1 + LEG_EGRESS
			: c->entry.verdict[LEG_INGRESS] == VERDICT_DENY ? 1 + LEG_INGRESS
									: 0;
}

/* A cut TCP connection stays cut; any other flow is judged again by newer policy, or a bypass, as if it were
 * open. */
static __always_inline int is_cut_for_good(const struct context *c, __u32 from_initiator)
{
	return (c->entry.flags & ENTRY_TOMBSTONE) &&
	       (c->key.protocol == IPPROTO_TCP || (!c->bypass && still_denies(c, from_initiator)));
}

static __always_inline void touch(struct context *c, struct ct_value *live, __u32 from_initiator, __u32 bytes)
{
	live->last_seen = c->now;
	if (!counts_here(c))
		return;
	if (from_initiator) {
		live->packets[0]++;
		live->bytes[0] += bytes;
	} else {
		live->packets[1]++;
		live->bytes[1] += bytes;
	}
}

/* Where the endpoints' records are now, for the next packet. */
static __always_inline void remember_slots(struct context *c, struct ct_value *live, __u32 from_initiator)
{
	const struct endpoint *initiator = from_initiator ? &c->source : &c->destination;
	const struct endpoint *responder = from_initiator ? &c->destination : &c->source;

	live->slot[LEG_EGRESS] = initiator->ifindex ? initiator->live >> 32 : 0;
	live->slot[LEG_INGRESS] = responder->ifindex ? responder->live >> 32 : 0;
}

/* The stack carries the flow from now on. */
static __always_inline void leave_direct(struct context *c, struct ct_value *live)
{
	union stage before = {.word = c->before}, after = before;

	c->entry.flags &= ~ENTRY_DIRECT;
	after.flags &= ~ENTRY_DIRECT;
	if (!(before.flags & ENTRY_FROZEN) && move_stage(live, before, after))
		c->before = after.word;
}

/* Moves the flow on in its element. Returns a reason. */
static __always_inline int step_flow(struct context *c, struct ct_value *live, __u32 from_initiator)
{
	__u32 how = (from_initiator ? 0 : STEP_RESPONDER) |
		    (c->source.ifindex || c->own_node ? STEP_BELIEVED : 0) |
		    (c->destination.ifindex ? 0 : STEP_OUTBOUND);

	if (c->key.protocol == IPPROTO_TCP)
		return step_tcp(c, live, how);
	/* Datagrams without room among the assured go on without, and ask again later. */
	if (goes_on(c) && assure(c, live, GREED_DATAGRAMS) == NO_ROOM)
		live->created = c->now >> CREATED_SHIFT;
	return REASON_NONE;
}

/* What the packet says is a Service's answer. Not so to an initiator that was a pod of this node, and is none
 * now: that is its backend's own word, since only clients that never were here are answered outside. It may
 * be known again (a start of an agent), so that its flow stays what it is. */
static __always_inline int is_answer(const struct context *c, __u32 from_initiator)
{
	return !from_initiator && (c->entry.flags & ENTRY_SERVICE) &&
	       (c->destination.ifindex || !c->entry.leg[LEG_EGRESS].generation);
}

/* A packet of a known flow. */
__attribute__((noinline)) int continue_flow(struct __sk_buff *skb, struct context *c, struct ct_value *live,
					    __u32 from_initiator)
{
	int reason, anew;

	c = own_context(c);
	if (!c || !live)
		return REASON_TABLE_ERROR;
	/* What stands in an earlier agent's tables is written into these. */
	anew = c->found == FOUND_EARLIER;
	c->audited[LEG_EGRESS] = c->audited[LEG_INGRESS] = 0;
	c->answers = !from_initiator;
	c->position = c->entry.position;
	if (is_cut_for_good(c, from_initiator)) {
		name_rules(c);
		return REASON_DENIED_EARLIER;
	}
	if (!(c->entry.flags & ENTRY_HOST) &&
	    ((c->entry.flags & ENTRY_TOMBSTONE) || !legs_are_current(c, from_initiator))) {
		reason = judge_flow(c, from_initiator);
		if (reason) {
			/* What an uplink's hook hands on is judged again at the pod's, and buried there. */
			if (!c->uplink || c->outside)
				bury(c, from_initiator);
			return reason;
		}
		if (!legs_stand(c, from_initiator)) {
			fill_legs(c, from_initiator);
			c->entry.flags &= ~ENTRY_TOMBSTONE;
			anew = 1;
		}
	}
	/* Also where it can't be written anew: it goes on all the same. */
	c->back = is_answer(c, from_initiator);
	if (c->back)
		note_original(c, &c->entry);
	if (anew) {
		c->entry.last_seen = c->now;
		reason = write_judged(c);
		/* Where another CPU has moved it meanwhile, its next packet is judged anew. */
		if (reason)
			return c->found == FOUND_EARLIER ? reason : REASON_NONE;
		live = bpf_map_lookup_elem(&ct_map, &c->key);
		if (!live)
			return REASON_NONE;
	}
	if (left_direct(c))
		leave_direct(c, live);
	c->direct = c->entry.flags & ENTRY_DIRECT;
	reason = step_flow(c, live, from_initiator);
	if (reason)
		return reason;
	remember_slots(c, live, from_initiator);
	touch(c, live, from_initiator, skb->len);
	return REASON_NONE;
}

/* Later fragments whose first one was not seen: no entry is read or made; every port must have one verdict.
 */
static __always_inline int judge_portless(struct context *c)
{
	c->position = (__u32)c->packet.protocol << 16;
	if (c->own_node)
		return REASON_NONE;
	return judge_flow(c, 1);
}

#define GO_ON (-1)

/* What a pod answers to the address that its own packets came from. Returns a reason, or GO_ON where *known
 * is its flow. */
static __noinline int find_turned(struct context *c, struct ct_value **known)
{
	struct packet *p = &c->packet;

	if ((p->protocol != IPPROTO_TCP && p->protocol != IPPROTO_UDP && p->protocol != IPPROTO_SCTP) ||
	    !may_skip_stack(p) || is_syn(p))
		return REASON_MID_FLOW;
	make_key(c, p);
	*known = find_entry_surely(c);
	if (c->found == FOUND_TORN)
		return REASON_TABLE_ERROR;
	return *known && (c->entry.flags & ENTRY_SERVICE) && c->side != c->entry.initiator && !is_dead(c, 0)
		   ? GO_ON
		   : REASON_MID_FLOW;
}

/* What a packet is to its flow. Returns a reason, or GO_ON where *known is its flow. A function of its own,
 * and not one that continues the flow: stacks end at 512 bytes. */
static __noinline int place_packet(struct __sk_buff *skb, struct context *c, struct ct_value **known)
{
	__u32 from_initiator;
	struct packet *p;
	int reason;

	p = &c->packet;
	if ((c->source.ifindex && !is_ready(&c->source)) ||
	    (c->destination.ifindex && !is_ready(&c->destination)))
		return REASON_NO_ENDPOINT;
	if (c->hairpin == HAIRPIN_BACK)
		return find_turned(c, known);
	if (p->flags & PACKET_PORTS_UNKNOWN)
		return judge_portless(c);
	if (!c->has_key)
		make_key(c, p);
	*known = find_entry(c);
	if (c->found == FOUND_NONE) {
		reason = open_flow(skb, c, 0);
		*known = reason ? find_entry(c) : 0;
		if (!reason || c->found == FOUND_NONE)
			return reason;
	}
	if (c->found == FOUND_TORN)
		return REASON_TABLE_ERROR;
	from_initiator = c->side == c->entry.initiator;
	if (!*known || is_dead(c, from_initiator))
		return open_flow(skb, c, 0);
	/* A backend spoke first. */
	if (c->chosen && !is_meant(&c->entry, c->side, &c->meant, c->meant_side))
		return open_flow(skb, c, 0);
	if (is_syn(p)) {
		/* On a closing or cut connection a SYN is a new one; from the responder it is never this one.
		 */
		if (c->entry.tcp == TCP_CLOSING || (c->entry.flags & ENTRY_TOMBSTONE))
			return open_flow(skb, c, 0);
		if (!from_initiator)
			return open_flow(skb, c, c->entry.tcp == TCP_OPEN);
	}
	return GO_ON;
}

static __always_inline int judge_packet(struct __sk_buff *skb, struct context *c)
{
	struct ct_value *known = 0;
	int reason = place_packet(skb, c, &known);

	if (reason != GO_ON)
		return reason;
	reason = continue_flow(skb, c, known, c->side == c->entry.initiator);
	/* The process that chose before has gone, or its tables were others: from here on it has the short
	 * way. */
	return reason || !c->chosen ? reason : write_translation(c);
}

#endif

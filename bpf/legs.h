/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The two legs of a flow: judged by what policy says now, or by what its entry knows. */
#ifndef MOAT_LEGS_H
#define MOAT_LEGS_H

#include "conntrack.h"

/* What audit lets through is noted, and is no reason any more. */
static __always_inline int audit_leg(struct context *c, __u32 leg, const struct endpoint *owner,
				     const struct question *q, int reason)
{
	if (!reason)
		return REASON_NONE;
	if (!c->bypass && !(owner->flags & ENDPOINT_AUDIT_ALL) &&
	    !((owner->flags & ENDPOINT_AUDIT_OWN) && q->own))
		return reason;
	c->audited[leg] = reason;
	return REASON_NONE;
}

/* One leg in the initiator's direction. */
static __always_inline int judge_leg(struct context *c, __u32 leg, const struct endpoint *owner,
				     const struct addr *peer)
{
	struct question q = {};
	int reason;

	c->rule[leg] = c->audited[leg] = 0;
	if (!owner->ifindex)
		return REASON_NONE;
	if (!(owner->flags & ENDPOINT_READY))
		return REASON_NO_ENDPOINT;
	reason = find_identity(c, peer, owner->flags & ENDPOINT_BANK);
	if (reason)
		return audit_leg(c, leg, owner, &q, reason);
	q.identity = c->identity;
	q.changes = c->changes;
	q.set = leg == LEG_EGRESS ? owner->egress_set : owner->ingress_set;
	q.first = q.last = c->position;
	if (c->packet.flags & PACKET_PORTS_UNKNOWN)
		q.last |= 0xffff;
	reason = judge(&q);
	c->rule[leg] = q.rule;
	return audit_leg(c, leg, owner, &q, reason);
}

/* A pod may always speak to itself. */
static __always_inline int allow_legs(struct context *c)
{
	for (int leg = 0; leg < LEG_COUNT; leg++)
		c->rule[leg] = c->audited[leg] = c->reason[leg] = 0;
	c->denied_leg = 0;
	return REASON_NONE;
}

/* Both legs, so that an event names both rules; the first that denies is the reason. */
__attribute__((noinline)) int judge_flow(struct context *c, __u32 from_initiator)
{
	int egress, ingress;

	c = own_context(c);
	if (!c)
		return REASON_TABLE_ERROR;
	if (c->hairpin)
		return allow_legs(c);
	if (from_initiator) {
		egress = judge_leg(c, LEG_EGRESS, &c->source, &c->packet.destination);
		ingress = judge_leg(c, LEG_INGRESS, &c->destination, &c->packet.source);
	} else {
		egress = judge_leg(c, LEG_EGRESS, &c->destination, &c->packet.source);
		ingress = judge_leg(c, LEG_INGRESS, &c->source, &c->packet.destination);
	}
	c->reason[LEG_EGRESS] = egress;
	c->reason[LEG_INGRESS] = ingress;
	c->denied_leg = egress ? 1 + LEG_EGRESS : ingress ? 1 + LEG_INGRESS : 0;
	return egress ? egress : ingress;
}

static __always_inline void fill_leg(struct context *c, __u32 leg, const struct endpoint *owner)
{
	c->entry.leg[leg].rule = c->rule[leg];
	if (!owner->ifindex) {
		/* Whose it was it stays, and for him it is never current: he was not here to be judged. */
		c->entry.leg[leg].epoch = 0;
		c->entry.slot[leg] = 0;
		c->entry.verdict[leg] = VERDICT_NONE;
		return;
	}
	c->entry.leg[leg].epoch = c->epoch;
	c->entry.leg[leg].generation = owner->generation;
	c->entry.slot[leg] = owner->live >> 32;
	c->entry.verdict[leg] = c->reason[leg] ? VERDICT_DENY : VERDICT_ALLOW;
	/* Nothing of it outlives the audit: each packet is judged anew. */
	if (c->audited[leg]) {
		c->entry.leg[leg].epoch = 0;
		c->entry.verdict[leg] = VERDICT_AUDIT;
	}
}

static __always_inline void fill_legs(struct context *c, __u32 from_initiator)
{
	fill_leg(c, LEG_EGRESS, from_initiator ? &c->source : &c->destination);
	fill_leg(c, LEG_INGRESS, from_initiator ? &c->destination : &c->source);
}

/* The two ends of a flow, as its initiator sees them. */
struct flow_ends {
	const struct endpoint *initiator;
	const struct endpoint *responder;
	const struct addr *from;
	const struct addr *to;
};

static __always_inline struct flow_ends ends_of(const struct context *c, __u32 from_initiator)
{
	const struct packet *p = &c->packet;

	return from_initiator ? (struct flow_ends){&c->source, &c->destination, &p->source, &p->destination}
			      : (struct flow_ends){&c->destination, &c->source, &p->destination, &p->source};
}

static __always_inline int legs_are_current(const struct context *c, __u32 from_initiator)
{
	struct flow_ends ends = ends_of(c, from_initiator);

	return leg_is_current(c, LEG_EGRESS, ends.initiator, ends.to) &&
	       leg_is_current(c, LEG_INGRESS, ends.responder, ends.from);
}

/* What one leg denies is denied, whatever is to be said of the other: that may be audited, and is never
 * current then. */
static __always_inline int still_denies(const struct context *c, __u32 from_initiator)
{
	const struct endpoint *initiator = from_initiator ? &c->source : &c->destination;
	const struct endpoint *responder = from_initiator ? &c->destination : &c->source;
	const struct addr *from = from_initiator ? &c->packet.source : &c->packet.destination;
	const struct addr *to = from_initiator ? &c->packet.destination : &c->packet.source;

	return (c->entry.verdict[LEG_EGRESS] == VERDICT_DENY &&
		leg_is_current(c, LEG_EGRESS, initiator, to)) ||
	       (c->entry.verdict[LEG_INGRESS] == VERDICT_DENY &&
		leg_is_current(c, LEG_INGRESS, responder, from));
}

/* The entry says of the leg what was judged now. */
static __always_inline int leg_stands(const struct context *c, __u32 leg, const struct endpoint *owner,
				      const struct addr *peer)
{
	if (!c->audited[leg])
		return leg_is_current(c, leg, owner, peer);
	return c->entry.verdict[leg] == VERDICT_AUDIT && c->entry.leg[leg].rule == c->rule[leg];
}

/* An audited flow is judged with each packet, and written where that comes to something else than before. */
static __always_inline int legs_stand(const struct context *c, __u32 from_initiator)
{
	struct flow_ends ends = ends_of(c, from_initiator);

	return !(c->entry.flags & ENTRY_TOMBSTONE) && leg_stands(c, LEG_EGRESS, ends.initiator, ends.to) &&
	       leg_stands(c, LEG_INGRESS, ends.responder, ends.from);
}

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Connections. One key for both directions, one element from a flow's first packet to its last. Flows are
 * assured or not, as in Linux's own conntrack: an assured one nobody takes away before its time, the others
 * give way to newer ones of the same pod (queue.h). Verdicts and epochs change only by writing a whole
 * element; through a pointer only counters, numbers, places and times are written, and the stage by one
 * exchange (stage.h). */
#ifndef MOAT_CONNTRACK_H
#define MOAT_CONNTRACK_H

#include "policy.h"
#include "parse.h"
#include "event.h"
#include "queue.h"
#include "earlier.h"
#include "translation.h"

enum found { FOUND_NONE, FOUND_HERE, FOUND_EARLIER, FOUND_TORN };

static __always_inline int is_syn(const struct packet *p)
{
	return p->protocol == IPPROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

/* An ICMP message that is no echo has no replies: the same message from the other side is another flow. */
static __always_inline void make_one_way(struct context *c, const struct packet *p)
{
	c->key.family |= KEY_ONE_WAY;
	c->key.sub = p->destination_port;
	c->key.port[0] = c->key.port[1] = c->side;
}

/* Key of a packet's flow and which side its source is. */
static __always_inline void make_key(struct context *c, const struct packet *p)
{
	__u16 from = p->source_port, to = p->destination_port;
	__u32 side;

	__builtin_memset(&c->key, 0, sizeof(c->key));
	if (is_icmp(p))
		from = to = p->echo_id;
	side = side_of(p->source.w, from, p->destination.w, to) & 1;
	c->side = side;
	c->key.family = p->source.family;
	c->key.protocol = p->protocol;
	c->key.port[0] = side ? to : from;
	c->key.port[1] = side ? from : to;
	/* Requests of the other side under the same id are another flow, so that nobody opens one by a reply.
	 */
	if (p->flags & PACKET_ECHO_REQUEST)
		c->key.sub = 1 + side;
	else if (p->flags & PACKET_ECHO_REPLY)
		c->key.sub = 2 - side;
	else if (is_icmp(p))
		make_one_way(c, p);
#pragma unroll
	for (int i = 0; i < 4; i++) {
		c->key.address[0][i] = side ? p->destination.w[i] : p->source.w[i];
		c->key.address[1][i] = side ? p->source.w[i] : p->destination.w[i];
	}
	c->key_tag = ct_tag(&c->key);
}

/* Copies an element, then looks again whether it still is the one that was looked up. */
static __always_inline int copy_entry(struct context *c, struct ct_value *live)
{
	c->entry = *live;
	asm volatile("" ::: "memory");
	return c->entry.head == c->entry.tail && (__u32)c->entry.head == c->key_tag &&
	       *(volatile __u64 *)&live->head == c->entry.head &&
	       *(volatile __u64 *)&live->tail == c->entry.head;
}

/*
 * The element of the packet's flow, copied to c->entry. An element that is being replaced may be missed: who
 * would drop a packet for want of one must look again. Who would open a flow need not, as it is only opened
 * where none stands.
 */
static __always_inline struct ct_value *find_entry(struct context *c)
{
	struct ct_value *live;

	c->found = FOUND_NONE;
	for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
		c->found = FOUND_HERE;
		live = bpf_map_lookup_elem(&ct_map, &c->key);
		if (!live) {
			int there = earlier ? find_earlier(c) : 0;

			c->found = there < 0 ? FOUND_TORN : there ? FOUND_EARLIER : FOUND_NONE;
			if (there >= 0)
				return there ? &c->entry : 0;
		} else if (copy_entry(c, live)) {
			c->held = c->entry.holder;
			c->place = c->entry.place;
			c->before = *stage_word(&c->entry);
			return live;
		} else {
			c->found = FOUND_TORN;
		}
	}
	return 0;
}

/* As find_entry(), for who would drop the packet otherwise. */
static __always_inline struct ct_value *find_entry_surely(struct context *c)
{
	struct ct_value *live = find_entry(c);

	return c->found == FOUND_NONE ? find_entry(c) : live;
}

static __always_inline int is_expired(const struct context *c)
{
	return is_stale(&c->entry, &c->key, c->now);
}

/* What an earlier owner of an address opened is dead for its new owner. */
static __always_inline int is_inherited(const struct context *c, __u32 leg, const struct endpoint *owner)
{
	return owner->ifindex && c->entry.leg[leg & 1].generation != owner->generation;
}

static __always_inline int leg_is_current(const struct context *c, __u32 leg, const struct endpoint *owner,
					  const struct addr *peer)
{
	__u32 set = leg == LEG_EGRESS ? owner->egress_set : owner->ingress_set;
	__u32 bucket = addr_tag(peer) & 0xffff;
	__u64 *changed, judged = c->entry.leg[leg & 1].epoch;
	__u32 verdict = c->entry.verdict[leg & 1];

	if (!owner->ifindex)
		return 1;
	if (judged < owner->epoch || (verdict != VERDICT_ALLOW && verdict != VERDICT_DENY))
		return 0;
	changed = bpf_map_lookup_elem(&set_epoch, &set);
	if (!changed || judged < *(volatile __u64 *)changed)
		return 0;
	changed = bpf_map_lookup_elem(&peer_epoch, &bucket);
	return changed && judged >= *(volatile __u64 *)changed;
}

static __always_inline void stamp(struct ct_value *entry, __u32 tag)
{
	entry->head = entry->tail = (__u64)bpf_get_prandom_u32() << 32 | tag;
	entry->tag[0] = tag;
	entry->tag[1] = tag >> 8;
	entry->tag[2] = tag >> 16;
}

static __always_inline void stamp_entry(struct context *c)
{
	stamp(&c->entry, c->key_tag);
}

/* A connection is its initiator's, or where that is elsewhere, the responder's; of two that are elsewhere,
 * the uplink's by which the first came. */
static __always_inline __u32 holder_of(const struct context *c)
{
	const struct endpoint *initiator = c->side == c->entry.initiator ? &c->source : &c->destination;
	const struct endpoint *responder = c->side == c->entry.initiator ? &c->destination : &c->source;

	return initiator->ifindex ? initiator->ifindex : responder->ifindex ? responder->ifindex : c->uplink;
}

/* Gives a fresh entry its holder and the time. */
static __always_inline void date_entry(struct context *c)
{
	c->entry.holder = holder_of(c);
	c->entry.created = c->now >> CREATED_SHIFT;
	c->entry.last_seen = c->now;
}

/* A datagram flow is assured once its holder still speaks after a while: an outsider alone brings that about
 * for none, and a question with its answer is over by then. */
static __always_inline int is_lasting(const struct ct_value *entry, __u64 now)
{
	return (__u32)(now >> CREATED_SHIFT) - entry->created >= (__u32)(assured_after >> CREATED_SHIFT);
}

static __always_inline int goes_on(const struct context *c)
{
	return c->key.protocol != IPPROTO_TCP && !(c->entry.flags & (ENTRY_ASSURED | ENTRY_FROZEN)) &&
	       c->source.ifindex == c->entry.holder && is_lasting(&c->entry, c->now);
}

/* Puts c->entry in the place of the element that was found, or where none stands. Returns 0 where it did. */
static __always_inline long put_entry(struct context *c)
{
	union stage before = {.word = c->before};
	struct ct_value *live;
	long failed;

	stamp_entry(c);
	if (c->found != FOUND_HERE)
		return bpf_map_update_elem(&ct_map, &c->key, &c->entry, BPF_NOEXIST);
	live = bpf_map_lookup_elem(&ct_map, &c->key);
	if (!live || !freeze(live, before))
		return -1;
	failed = bpf_map_update_elem(&ct_map, &c->key, &c->entry, BPF_EXIST);
	if (failed)
		thaw(live, before);
	return failed;
}

/* The place of what stands there, for the flow that begins in its stead: ports are soon used again. */
static __always_inline int inherits_place(const struct context *c, const struct share *own)
{
	union stage before = {.word = c->before};

	return c->found == FOUND_HERE && !(before.flags & ENTRY_ASSURED) && c->held == c->entry.holder &&
	       is_late(c->place, own);
}

/* Writes a flow that begins, whatever stood there before: it takes a place in its holder's queue. `told`: by
 * an event. Returns a reason. */
__attribute__((noinline)) int write_fresh(struct context *c, __u32 told)
{
	union stage before;
	struct share *all, *own;
	__s64 place;
	long failed;

	c = own_context(c);
	if (!c)
		return REASON_TABLE_ERROR;
	all = total_share();
	own = share_of(c->entry.holder);
	if (!all || !own)
		return REASON_CONNTRACK_FULL;
	c->entry.place = c->place;
	if (!inherits_place(c, own)) {
		place = take_place(all, own, c->entry.holder, &c->key, c->gone, c->now);
		if (place < 0)
			return REASON_CONNTRACK_FULL;
		c->entry.place = place;
	}
	if (c->found == FOUND_HERE)
		forget_earlier_translation(c);
	failed = put_entry(c);
	/* What stood there may have been the oldest, and just have given way; or it was swept. */
	if (failed && c->found == FOUND_HERE && !bpf_map_lookup_elem(&ct_map, &c->key)) {
		c->found = FOUND_NONE;
		failed = put_entry(c);
	}
	if (failed)
		return REASON_CONNTRACK_FULL;
	before.word = c->before;
	if (c->found == FOUND_HERE && (before.flags & ENTRY_ASSURED))
		give_share_of(c->held);
	if (has_lost_place(c->entry.place, own)) {
		remove_lost(&c->key, c->key_tag, &c->gone[1]);
		return REASON_CONNTRACK_FULL;
	}
	if (told)
		report_flow(c, c->ifindex == c->entry.holder ? own : share_of(c->ifindex), EVENT_NEW);
	return REASON_NONE;
}

/* Writes a flow anew that was judged anew, where it was found: a cut one keeps the place that it had, so that
 * it needs none. Returns a reason. */
static __always_inline int write_again(struct context *c)
{
	struct share *own;

	if (put_entry(c))
		return REASON_CONNTRACK_FULL;
	c->before = *stage_word(&c->entry);
	if (c->entry.flags & ENTRY_ASSURED)
		return REASON_NONE;
	own = share_of(c->entry.holder);
	if (own && has_lost_place(c->entry.place, own))
		remove_lost(&c->key, c->key_tag, &c->gone[1]);
	return REASON_NONE;
}

/* Writes a flow that an earlier agent's tables hold into these. Returns a reason. */
static __always_inline int write_earlier(struct context *c)
{
	int cut = c->entry.flags & ENTRY_TOMBSTONE;
	struct share *all = total_share(), *own;

	c->entry.holder = holder_of(c);
	own = share_of(c->entry.holder);
	if (c->entry.tcp == TCP_OPEN && take_share(all, own, GREED)) {
		c->entry.flags |= ENTRY_ASSURED;
		c->entry.place = no_place(own);
		if (!put_entry(c))
			return REASON_NONE;
		/* Another CPU may have been faster, with another packet of this flow. */
		give_share(all, own);
		return bpf_map_lookup_elem(&ct_map, &c->key) ? REASON_NONE : REASON_CONNTRACK_FULL;
	}
	if (c->entry.tcp == TCP_OPEN && !cut)
		return REASON_CONNTRACK_FULL;
	return write_fresh(c, 0);
}

#endif

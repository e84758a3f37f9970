/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Connections. One key for both directions. Flows are assured or not, as in Linux's own conntrack: an assured
 * one nobody takes away before its time, the others give way to newer ones of the same pod (queue.h).
 * Verdicts and epochs change only by writing a whole element; through a pointer only counters, numbers and
 * last_seen are written, and a connection's stage by one exchange. */
#ifndef MOAT_CONNTRACK_H
#define MOAT_CONNTRACK_H

#include "policy.h"
#include "parse.h"
#include "queue.h"
#include "earlier.h"

enum found { FOUND_NONE, FOUND_ASSURED, FOUND_UNASSURED, FOUND_EARLIER, FOUND_TORN };

static __always_inline int is_syn(const struct packet *p)
{
	return p->protocol == IPPROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

/* Side 0 is the lower (address, port). */
static __always_inline __u32 side_of(const struct addr *a, __u16 a_port, const struct addr *b, __u16 b_port)
{
#pragma unroll
	for (int i = 0; i < 4; i++)
		if (a->w[i] != b->w[i])
			return a->w[i] > b->w[i];
	return a_port > b_port;
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
	side = side_of(&p->source, from, &p->destination, to) & 1;
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
		c->found = FOUND_ASSURED;
		live = bpf_map_lookup_elem(&ct_assured, &c->key);
		if (!live) {
			c->found = FOUND_UNASSURED;
			live = bpf_map_lookup_elem(&ct_unassured, &c->key);
		}
		if (!live) {
			int there = earlier ? find_earlier(c) : 0;

			c->found = there < 0 ? FOUND_TORN : there ? FOUND_EARLIER : FOUND_NONE;
			if (there >= 0)
				return there ? &c->entry : 0;
		} else if (copy_entry(c, live)) {
			c->held = c->entry.holder;
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

	if (!owner->ifindex)
		return 1;
	if (judged < owner->epoch)
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

static __always_inline __u64 *stage_word(struct ct_value *entry)
{
	return (__u64 *)entry->verdict;
}

/* The stage that the copy has come to since it was `before` becomes the element's, unless another CPU changed
 * that meanwhile, or it is another flow's by now. */
static __always_inline int move_stage(struct context *c, struct ct_value *live, __u64 before)
{
	return __sync_val_compare_and_swap(stage_word(live), before, *stage_word(&c->entry)) == before;
}

/* A connection is its initiator's, or where that is elsewhere, the responder's. */
static __always_inline __u32 holder_of(const struct context *c)
{
	const struct endpoint *initiator = c->side == c->entry.initiator ? &c->source : &c->destination;
	const struct endpoint *responder = c->side == c->entry.initiator ? &c->destination : &c->source;

	return initiator->ifindex ? initiator->ifindex : responder->ifindex;
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
	return c->key.protocol != IPPROTO_TCP && c->source.ifindex == c->entry.holder &&
	       is_lasting(&c->entry, c->now);
}

static __always_inline void take_away(struct context *c)
{
	if (!bpf_map_delete_elem(&ct_assured, &c->key))
		give_share(c->held);
}

/* The entry takes a new place in its holder's queue. Returns a reason. */
__attribute__((noinline)) int write_unassured(struct context *c)
{
	c = own_context(c);
	if (!c)
		return REASON_TABLE_ERROR;
	if (queue_flow(&c->key, &c->entry, c->now, c->found == FOUND_NONE ? BPF_NOEXIST : BPF_ANY))
		return REASON_CONNTRACK_FULL;
	if (c->found == FOUND_ASSURED)
		take_away(c);
	return REASON_NONE;
}

/* The flow becomes an assured one, if its holder may have one more. Returns a reason. */
static __always_inline int assure(struct context *c, __s64 greed)
{
	if (!take_share(c->entry.holder, greed))
		return REASON_CONNTRACK_FULL;
	if (bpf_map_update_elem(&ct_assured, &c->key, &c->entry, BPF_NOEXIST)) {
		give_share(c->entry.holder);
		/* Another CPU may have been faster, with another packet of this flow. */
		return bpf_map_lookup_elem(&ct_assured, &c->key) ? REASON_NONE : REASON_CONNTRACK_FULL;
	}
	if (c->found == FOUND_UNASSURED)
		bpf_map_delete_elem(&ct_unassured, &c->key);
	return REASON_NONE;
}

/* Writes a flow that begins, whatever stood there before. Returns a reason. */
static __always_inline int write_fresh(struct context *c)
{
	stamp_entry(c);
	return write_unassured(c);
}

/* Writes what a flow has become, and takes it away where it was. Returns a reason. */
static __always_inline int write_entry(struct context *c)
{
	int tcp = c->key.protocol == IPPROTO_TCP, cut = c->entry.flags & ENTRY_TOMBSTONE;
	int open = c->entry.tcp == TCP_OPEN;

	stamp_entry(c);
	/* A cut flow keeps the place that it had, so that it needs none. */
	if (c->found == FOUND_ASSURED && (cut || open || !tcp)) {
		/* Where another CPU has closed it meanwhile, that stands. */
		bpf_map_update_elem(&ct_assured, &c->key, &c->entry, BPF_EXIST);
		return REASON_NONE;
	}
	if (c->found == FOUND_EARLIER && cut && open && !assure(c, GREED))
		return REASON_NONE;
	if (open && !cut)
		return assure(c, GREED);
	if (c->found == FOUND_UNASSURED && !bpf_map_update_elem(&ct_unassured, &c->key, &c->entry, BPF_EXIST))
		return REASON_NONE;
	if (c->found == FOUND_UNASSURED && bpf_map_lookup_elem(&ct_assured, &c->key))
		return REASON_NONE;
	return write_unassured(c);
}

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a packet makes of its flow, in the flow's own element: a stage of TCP, a place among the assured, or
 * one in its holder's queue again. Nothing is looked up but the holder's share. */
#ifndef MOAT_PROGRESS_H
#define MOAT_PROGRESS_H

#include "conntrack.h"
#include "tcp.h"

#define STEP_ATTEMPTS 2 /* another CPU may move the flow meanwhile, now and then */

/* RELEASED: it has to be; STANDS: it is about to go, or another flow's by now. */
enum moved { MOVED, OVERTAKEN, NO_ROOM, RELEASED, STANDS };

/* The stage that a packet goes by, and its numbers. Returns 0 where the element is another flow's by now, or
 * about to go. */
static __always_inline int read_progress(struct context *c, struct ct_value *live)
{
	union stage stage = read_stage(live);

	c->before = *stage_word(&c->entry) = stage.word;
	c->entry.next[0] = *(volatile __u32 *)&live->next[0];
	c->entry.next[1] = *(volatile __u32 *)&live->next[1];
	c->entry.fin[0] = *(volatile __u32 *)&live->fin[0];
	c->entry.fin[1] = *(volatile __u32 *)&live->fin[1];
	return is_stage_of(stage, c->key_tag) && !(stage.flags & ENTRY_FROZEN);
}

/* The flow becomes an assured one, if its holder may have one more. */
static __always_inline int assure(struct context *c, struct ct_value *live, __s64 greed)
{
	union stage before = {.word = c->before}, after = {.word = *stage_word(&c->entry)};
	struct share *all = total_share(), *own = share_of(live->holder);

	if (!take_share(all, own, greed))
		return NO_ROOM;
	after.flags |= ENTRY_ASSURED;
	if (move_stage(live, before, after))
		return MOVED;
	give_share(all, own);
	return OVERTAKEN;
}

/* The flow gives its assured place back. In the queue it has the place that it had, where that is late
 * enough; else a new one. */
__attribute__((noinline)) int release(struct context *c, struct ct_value *live)
{
	union stage before, after;
	struct share *all, *own;
	__s64 place = -1;
	int late;

	c = own_context(c);
	if (!c || !live)
		return NO_ROOM;
	before.word = c->before;
	after.word = *stage_word(&c->entry);
	all = total_share();
	own = share_of(live->holder);
	if (!all || !own)
		return NO_ROOM;
	late = is_late(live->place, own);
	if (!late)
		place = take_place(all, own, live->holder, &c->key, c->gone, c->now);
	if (!late && place < 0)
		return NO_ROOM;
	after.flags &= ~ENTRY_ASSURED;
	if (!move_stage(live, before, after))
		return OVERTAKEN;
	if (!late)
		live->place = place;
	give_share(all, own);
	if (has_lost_place(live->place, own))
		remove_lost(&c->key, c->key_tag, &c->gone[1]);
	return MOVED;
}

/* What a segment makes of its connection: in c->entry, and where it is not released by that, in its element.
 * `how`: enum step_flag. Returns an enum moved. */
__attribute__((noinline)) int advance_flow(struct context *c, struct ct_value *live, __u32 how)
{
	union stage before, after;

	c = own_context(c);
	if (!c || !live || !read_progress(c, live))
		return STANDS;
	before.word = c->before;
	advance_tcp(c, how);
	after.word = *stage_word(&c->entry);
	if (after.tcp == TCP_OPEN && !(after.flags & ENTRY_ASSURED))
		return assure(c, live, GREED);
	if (after.tcp == TCP_CLOSING && (after.flags & ENTRY_ASSURED))
		return RELEASED;
	return before.word == after.word || move_stage(live, before, after) ? MOVED : OVERTAKEN;
}

__attribute__((noinline)) int report_close(struct context *c, const struct ct_value *live)
{
	c = own_context(c);
	if (!c || !live)
		return 0;
	c->entry.leg[LEG_EGRESS].rule = live->leg[LEG_EGRESS].rule;
	c->entry.leg[LEG_INGRESS].rule = live->leg[LEG_INGRESS].rule;
	c->entry.position = live->position;
	report_flow(c, share_of(c->ifindex), EVENT_CLOSE);
	return 0;
}

/* A segment of a connection that stands. Returns a reason. */
static __always_inline int step_tcp(struct context *c, struct ct_value *live, __u32 how)
{
	union stage before;
	int moved;

	for (int attempt = 0; attempt < STEP_ATTEMPTS; attempt++) {
		moved = advance_flow(c, live, how);
		if (moved == RELEASED)
			moved = release(c, live);
		if (moved != OVERTAKEN)
			break;
	}
	if (moved == NO_ROOM)
		return REASON_CONNTRACK_FULL;
	if (moved != MOVED)
		return REASON_NONE;
	keep_numbers(c, live);
	before.word = c->before;
	if (c->entry.tcp == TCP_CLOSING && before.tcp != TCP_CLOSING && !is_elsewhere(&c->entry))
		report_close(c, live);
	return REASON_NONE;
}

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Events to user space. What finds no room is counted exactly; equal drops within a window are one event. */
#ifndef MOAT_EVENT_H
#define MOAT_EVENT_H

#include "share.h"

static __always_inline void count_lost(__u32 events)
{
	struct counters *counters = node_counters();

	/* Atomic: the sweep may be interrupted by a packet on its own CPU. */
	if (counters)
		__sync_fetch_and_add(&counters->lost, events);
}

static __always_inline void fill_event(struct event *event, __u32 kind, __u32 reason, __u32 count)
{
	__builtin_memset(event, 0, sizeof(*event));
	event->kind = kind;
	event->reason = reason;
	event->count = count;
}

/* The reader looks every few milliseconds: to wake it costs more than the event, and an interrupt. */
static __always_inline void send_event(struct event *event)
{
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}

/* For an ICMP echo its id, so that each ping's events are its own. */
static __always_inline __u16 source_port_of(const struct packet *p)
{
	return p->source_port ? p->source_port : p->echo_id;
}

/* One of an interface's tokens for events, so that one pod cannot flood the ring. Returns 0 where it has none
 * left in this second. */
static __always_inline int take_token(const struct context *c, struct share *share, enum budget_kind kind,
				      __u64 rate)
{
	struct budget *budget;

	if (!share)
		return 0;
	budget = &share->budgets[kind];
	/* Signed: another CPU may have read the clock after us. */
	if ((__s64)(c->now - budget->time) > (__s64)SECOND) {
		budget->time = c->now;
		budget->tokens = rate;
	}
	/* Unsigned: what was taken twice at once shows as a huge number, so compare before taking. */
	if (budget->tokens == 0 || budget->tokens > rate)
		return 0;
	budget->tokens--;
	return 1;
}

/* A connection opened or closed, in its initiator's direction. `share`: of the interface that it is seen at.
 */
static __always_inline void report_flow(struct context *c, struct share *share, __u32 kind)
{
	__u32 from_initiator = c->side == c->entry.initiator;
	struct packet *p = &c->packet;
	struct event *event = 0;

	if (take_token(c, share, BUDGET_FLOWS, flow_rate))
		event = bpf_ringbuf_reserve(&event_ring, sizeof(*event), 0);
	if (!event) {
		count_lost(1);
		return;
	}
	fill_event(event, kind, REASON_NONE, 1);
	/* To the clock's tick: the exact time costs as much as a look-up. */
	event->time = c->now;
	event->hook = c->hook;
	event->ifindex = c->ifindex;
	event->egress_rule = c->entry.leg[LEG_EGRESS].rule;
	event->ingress_rule = c->entry.leg[LEG_INGRESS].rule;
	event->protocol = p->protocol;
	event->source = from_initiator ? p->source : p->destination;
	event->destination = from_initiator ? p->destination : p->source;
	event->source_port = from_initiator ? source_port_of(p) : p->destination_port;
	event->destination_port = c->entry.position & 0xffff;
	send_event(event);
}

static __always_inline void report_drop(const struct drop_key *key, const struct drop_value *value,
					__u32 count, __u64 now)
{
	struct event *event = bpf_ringbuf_reserve(&event_ring, sizeof(*event), 0);

	if (!event) {
		count_lost(count);
		return;
	}
	fill_event(event, key->reason & DROP_AUDITED ? EVENT_AUDIT : EVENT_DROP, key->reason & ~DROP_AUDITED,
		   count);
	event->time = now;
	event->hook = key->hook;
	event->leg = key->leg;
	event->ifindex = value->ifindex;
	event->egress_rule = value->egress_rule;
	event->ingress_rule = value->ingress_rule;
	event->protocol = key->protocol;
	event->source = key->source;
	event->destination = key->destination;
	event->source_port = key->source_port;
	event->destination_port = key->destination_port;
	send_event(event);
}

static __always_inline void fill_drop_key(struct context *c, __u32 reason)
{
	struct packet *p = &c->packet;
	struct drop_key *key = &c->drop;

	key->source = p->source;
	key->destination = p->destination;
	key->source_port = source_port_of(p);
	key->destination_port = p->destination_port;
	key->protocol = p->protocol;
	key->reason = reason;
	key->hook = c->hook;
	key->leg = c->denied_leg;
}

/* Counts a packet under its reason, which is a drop's, or with DROP_AUDITED that of one which audit lets
 * pass, and reports it, now or as part of the next event of its tuple. */
__attribute__((noinline)) int report_reason(struct context *c, __u32 reason)
{
	struct counters *counters = node_counters();
	struct drop_value fresh = {}, *seen;
	__u32 number = reason & ~DROP_AUDITED;
	enum budget_kind budget = reason & DROP_AUDITED ? BUDGET_AUDITS : BUDGET_DROPS;

	c = own_context(c);
	if (!c)
		return 0;
	if (counters && number < REASON_COUNT) {
		if (reason & DROP_AUDITED)
			counters->audited[number]++;
		else
			counters->drops[number]++;
	}
	fill_drop_key(c, reason);
	fresh.since = c->now;
	fresh.egress_rule = c->rule[LEG_EGRESS];
	fresh.ingress_rule = c->rule[LEG_INGRESS];
	fresh.ifindex = c->ifindex;
	seen = bpf_map_lookup_elem(&drop_map, &c->drop);
	if (seen && c->now - seen->since < drop_window && seen->egress_rule == fresh.egress_rule &&
	    seen->ingress_rule == fresh.ingress_rule) {
		__sync_fetch_and_add(&seen->pending, 1);
		return 0;
	}
	if (!take_token(c, share_of(c->ifindex), budget, drop_rate)) {
		count_lost(1);
		return 0;
	}
	/* What was pending belongs to the rules that it was dropped by. */
	if (seen && seen->pending)
		report_drop(&c->drop, seen, __sync_lock_test_and_set(&seen->pending, 0), c->now);
	/* Where there is no room for it, the next drop of this tuple is an event of its own. */
	bpf_map_update_elem(&drop_map, &c->drop, &fresh, BPF_ANY);
	report_drop(&c->drop, &fresh, 1, c->now);
	return 0;
}

/* What is let through though a leg denies it. */
static __always_inline int is_audited(const struct context *c)
{
	return c->audited[LEG_EGRESS] || c->audited[LEG_INGRESS];
}

/* Once, at its sender's hook where that is local, and in its initiator's direction: answers say nothing new.
 */
static __always_inline void report_audited(struct context *c)
{
	__u32 leg = c->audited[LEG_EGRESS] ? LEG_EGRESS : LEG_INGRESS;

	if (c->answers || (c->hook != HOOK_FROM_POD && c->source.ifindex))
		return;
	c->denied_leg = 1 + leg;
	report_reason(c, c->audited[leg] | DROP_AUDITED);
}

#endif

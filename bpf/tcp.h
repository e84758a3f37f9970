/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How far a TCP connection has come, by sequence numbers: who can't see a connection can neither finish its
 * handshake nor end it, since it would have to guess 32 bits, as with the kernels at its ends (RFC 5961).
 * What can't be believed is no reason to drop: those kernels judge it. `end`: 0 is the initiator's, 1 the
 * other. */
#ifndef MOAT_TCP_H
#define MOAT_TCP_H

#include "event.h"
#include "parse.h"

/* What the answer to a SYN may acknowledge beyond it: data that came along (RFC 7413). */
#define FAST_OPEN 0xffff

/* A segment on its way. `believed`: a pod of this node sends it, or the node itself: nobody else can.
 * `outbound`: its receiver is elsewhere, so that what was received from there is the sender's to say. */
struct step {
	const struct segment *segment;
	__u32 flags;
	__u32 end;
	__u32 believed;
	__u32 outbound;
};

/* The same, said in one word. */
enum step_flag { STEP_RESPONDER = 1, STEP_BELIEVED = 2, STEP_OUTBOUND = 4 };

static __always_inline int is_after(__u32 a, __u32 b)
{
	return (__s32)(a - b) > 0;
}

/* Numbers move in an element that others read and write, as counters do; most packets move none. */
static __always_inline void set_number(__u32 *number, __u32 to)
{
	if (*number != to)
		*number = to;
}

/*
 * The next number that each end will send. Who is believed tells its own, and of an end that is elsewhere,
 * what it has received from there. What comes from elsewhere counts where it goes on from there exactly.
 */
static __always_inline void follow_numbers(struct ct_value *entry, const struct step *step)
{
	const struct segment *s = step->segment;
	__u32 *own = step->end ? &entry->next[1] : &entry->next[0];
	__u32 *other = step->end ? &entry->next[0] : &entry->next[1];
	int syn = step->flags & TCP_SYN, ack = step->flags & TCP_ACK;

	if (!step->believed) {
		if (s->sequence == *own || (syn && ack && s->acknowledged == *other))
			set_number(own, s->end);
		return;
	}
	if (syn || is_after(s->end, *own))
		set_number(own, s->end);
	if (step->outbound && ack && (syn || is_after(s->acknowledged, *other)))
		set_number(other, s->acknowledged);
}

/* The segment says that the other end's FIN was received. */
static __always_inline int confirms_fin(const struct ct_value *entry, const struct step *step)
{
	__u32 sent = step->end ? entry->fin[0] : entry->fin[1];

	return sent && (step->flags & TCP_ACK) && step->segment->acknowledged == sent;
}

/* A reset that its receiver would obey. */
static __always_inline int resets(const struct ct_value *entry, const struct step *step)
{
	const struct segment *s = step->segment;

	if (!(step->flags & TCP_RST))
		return 0;
	if (step->end && entry->tcp == TCP_SYN_SENT)
		return (step->flags & TCP_ACK) && s->acknowledged - entry->next[0] <= FAST_OPEN;
	return s->sequence == (step->end ? entry->next[1] : entry->next[0]);
}

/* Of a responder that is believed, a SYN-ACK may be about a later SYN than the first. */
static __always_inline int answers_syn(const struct ct_value *entry, const struct step *step)
{
	if ((step->flags & TCP_SYN) && step->believed)
		return 1;
	return step->segment->acknowledged - entry->next[0] <= FAST_OPEN;
}

/* The handshake goes on. Both ends have spoken before a connection is assured. */
static __always_inline void shake_hands(struct ct_value *entry, const struct step *step)
{
	if (!(step->flags & TCP_ACK))
		return;
	if (entry->tcp == TCP_SYN_SENT && step->end && answers_syn(entry, step)) {
		entry->next[1] = step->segment->end;
		entry->tcp = TCP_SYN_ACKED;
	} else if (entry->tcp == TCP_SYN_ACKED && !step->end && !(step->flags & TCP_SYN) &&
		   step->segment->acknowledged == entry->next[1]) {
		entry->tcp = TCP_OPEN;
	}
}

/* Ports that are used again while their last connection still seems open. */
static __always_inline void forget_fins(struct ct_value *entry, const struct step *step)
{
	if ((step->flags & TCP_SYN) && step->believed)
		entry->flags &= ~(ENTRY_FIN_INITIATOR | ENTRY_FIN_RESPONDER);
}

/* A FIN counts once its receiver says that it has it. */
static __always_inline void note_fin(struct ct_value *entry, const struct step *step)
{
	int confirmed = confirms_fin(entry, step);

	if ((step->flags & (TCP_FIN | TCP_ACK)) == (TCP_FIN | TCP_ACK))
		set_number(step->end ? &entry->fin[1] : &entry->fin[0], step->segment->end);
	if (confirmed)
		entry->flags |= step->end ? ENTRY_FIN_INITIATOR : ENTRY_FIN_RESPONDER;
}

/* Moves a TCP entry on, in its copy. `how`: enum step_flag. */
static __always_inline void advance_tcp(struct context *c, __u32 how)
{
	__u8 both = ENTRY_FIN_INITIATOR | ENTRY_FIN_RESPONDER;
	struct ct_value *entry = &c->entry;
	struct step step = {
	    .segment = &c->packet.segment,
	    .flags = c->packet.tcp_flags,
	    .end = how & STEP_RESPONDER,
	    .believed = how & STEP_BELIEVED,
	    .outbound = how & STEP_OUTBOUND,
	};

	/* Of a later fragment nothing is known. */
	if (entry->tcp == TCP_CLOSING || (c->packet.flags & PACKET_FRAGMENT_LATER))
		return;
	if (resets(entry, &step))
		entry->tcp = TCP_CLOSING;
	if (step.flags & TCP_RST)
		return;
	forget_fins(entry, &step);
	shake_hands(entry, &step);
	follow_numbers(entry, &step);
	note_fin(entry, &step);
	if ((entry->flags & both) == both)
		entry->tcp = TCP_CLOSING;
}

/* Numbers from the copy to the map's own element. */
static __always_inline void keep_numbers(const struct context *c, struct ct_value *live)
{
	set_number(&live->next[0], c->entry.next[0]);
	set_number(&live->next[1], c->entry.next[1]);
	set_number(&live->fin[0], c->entry.fin[0]);
	set_number(&live->fin[1], c->entry.fin[1]);
}

/* The numbers of a connection's first packet here. */
static __always_inline void begin_numbers(struct context *c, __u32 from_initiator)
{
	const struct segment *s = &c->packet.segment;

	c->entry.next[0] = from_initiator ? s->end : s->acknowledged;
	c->entry.next[1] = from_initiator ? s->acknowledged : s->end;
}

#endif

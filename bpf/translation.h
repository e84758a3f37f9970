/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where the packets of flows to Services go. A translation stands as long as its flow's entry: written after
 * it, and taken away with it, so that there are never more than flows. */
#ifndef MOAT_TRANSLATION_H
#define MOAT_TRANSLATION_H

#include "stage.h"

static __always_inline int equal_words(const __u32 *a, const __u32 *b)
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

/* The key of the flow between these ends, and the side of the first one. */
static __always_inline __u32 join_ends(struct ct_key *key, const __u32 *a, __u16 a_port, const __u32 *b,
				       __u16 b_port)
{
	__u32 side = side_of(a, a_port, b, b_port) & 1;

	key->port[0] = side ? b_port : a_port;
	key->port[1] = side ? a_port : b_port;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		key->address[0][i] = side ? b[i] : a[i];
		key->address[1][i] = side ? a[i] : b[i];
	}
	return side;
}

static __always_inline void begin_key(struct ct_key *key, const struct ct_key *like)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->family = like->family;
	key->protocol = like->protocol;
}

/* Neither end of a flow is here: this node speaks for who asked (forward.h). */
static __always_inline int is_elsewhere(const struct ct_value *flow)
{
	return flow->verdict[LEG_EGRESS] == VERDICT_ELSEWHERE;
}

/* Who asked. */
static __always_inline void asker_of(const struct ct_value *flow, __u32 *words)
{
	words[0] = flow->leg[LEG_EGRESS].epoch;
	words[1] = flow->leg[LEG_EGRESS].epoch >> 32;
	words[2] = flow->leg[LEG_INGRESS].epoch;
	words[3] = flow->leg[LEG_INGRESS].epoch >> 32;
}

static __always_inline void note_asker(struct ct_value *flow, const __u32 *words, __u32 port)
{
	flow->verdict[LEG_EGRESS] = flow->verdict[LEG_INGRESS] = VERDICT_ELSEWHERE;
	flow->leg[LEG_EGRESS].epoch = (__u64)words[1] << 32 | words[0];
	flow->leg[LEG_INGRESS].epoch = (__u64)words[3] << 32 | words[2];
	flow->asker_port = port;
}

static __always_inline int is_asker(const struct ct_value *flow, const __u32 *words, __u32 port)
{
	return flow->asker_port == port &&
	       flow->leg[LEG_EGRESS].epoch == ((__u64)words[1] << 32 | words[0]) &&
	       flow->leg[LEG_INGRESS].epoch == ((__u64)words[3] << 32 | words[2]);
}

/* The key of a translation's flow. Returns the initiator's side in it. */
static __always_inline __u32 make_flow_key(const struct ct_key *meant, const struct translation *translation,
					   struct ct_key *key)
{
	__u32 side = translation->side & 1;
	const __u32 *from = side ? meant->address[1] : meant->address[0];
	__u16 from_port = side ? meant->port[1] : meant->port[0];

	begin_key(key, meant);
	if (translation->self_port) {
		from = translation->self;
		from_port = translation->self_port;
	}
	return join_ends(key, from, from_port, translation->address, translation->port);
}

/* The flow was sent to the Service that its initiator's key, on whose other side it stands, names. A backend
 * that asks the Service of its client, by the port where it serves, begins no answer. */
static __always_inline int is_meant(const struct ct_value *flow, __u32 initiator, const struct ct_key *meant,
				    __u32 side)
{
	const __u32 *service = side & 1 ? meant->address[0] : meant->address[1];
	const __u32 *client = side & 1 ? meant->address[1] : meant->address[0];
	__u32 port = side & 1 ? meant->port[0] : meant->port[1];

	return (flow->flags & ENTRY_SERVICE) && flow->initiator == initiator && flow->original_port == port &&
	       equal_words(flow->original, service) &&
	       (!is_elsewhere(flow) || is_asker(flow, client, side & 1 ? meant->port[1] : meant->port[0]));
}

/* Who takes one away or puts another in its place does so alone; and not what has become another flow's since
 * it was looked up, which nobody could take away any more. */
static __always_inline int hold_translation(struct translation *translation, __u32 tag)
{
	return __sync_val_compare_and_swap(&translation->hold, (__u64)tag, tag | TRANSLATION_HELD) == tag;
}

static __always_inline void let_go(struct translation *translation, __u32 tag)
{
	__sync_val_compare_and_swap(&translation->hold, tag | TRANSLATION_HELD, (__u64)tag);
}

static __always_inline void remove_translation(const struct ct_key *meant, struct translation *translation)
{
	__u32 tag = ct_tag(meant);

	if (hold_translation(translation, tag) && bpf_map_delete_elem(&translation_map, meant))
		let_go(translation, tag);
}

/* The key of what a flow's initiator sends, and his side in it. */
static __always_inline __u32 name_meant(const struct ct_key *key, const struct ct_value *flow,
					struct ct_key *meant)
{
	__u32 side = flow->initiator & 1, words[4];

	begin_key(meant, key);
	if (is_elsewhere(flow)) {
		asker_of(flow, words);
		return join_ends(meant, words, flow->asker_port, flow->original, flow->original_port);
	}
	return join_ends(meant, side ? key->address[1] : key->address[0], side ? key->port[1] : key->port[0],
			 flow->original, flow->original_port);
}

static __noinline int forget_translation(const struct ct_key *key, const struct ct_value *flow,
					 struct ct_key *meant)
{
	struct translation *translation;
	__u32 other = !(flow->initiator & 1);

	name_meant(key, flow, meant);
	translation = bpf_map_lookup_elem(&translation_map, meant);
	/* The same Service may have sent these ports to another backend since. */
	if (translation && translation->port == (other ? key->port[1] : key->port[0]) &&
	    equal_words(translation->address, other ? key->address[1] : key->address[0]))
		remove_translation(meant, translation);
	return 0;
}

/* Of the flow that stands under c->key, which is about to be replaced by another one. */
static __always_inline void forget_earlier_translation(struct context *c)
{
	struct ct_value *live = bpf_map_lookup_elem(&ct_map, &c->key);

	if (live && (live->flags & ENTRY_SERVICE))
		forget_translation(&c->key, live, &c->gone[1]);
}

/* The translation of c->meant, copied to c->translation. Returns 1 where there is one, -1 where it did not
 * hold still. */
static __always_inline int find_translation(struct context *c)
{
	for (int attempt = 0; attempt < 3; attempt++) {
		struct translation *live = bpf_map_lookup_elem(&translation_map, &c->meant);
		__u64 head;

		if (!live)
			return 0;
		c->translation = *live;
		head = c->translation.head;
		asm volatile("" ::: "memory");
		if (head == c->translation.tail && (__u32)head == c->meant_tag &&
		    *(volatile __u64 *)&live->head == head && *(volatile __u64 *)&live->tail == head)
			return 1;
	}
	return -1;
}

/* The flow in c->entry was sent to a Service. */
static __always_inline void note_service(struct context *c)
{
	c->entry.flags |= ENTRY_SERVICE;
	__builtin_memcpy(c->entry.original, c->meant_address.w, sizeof(c->entry.original));
	c->entry.original_port = c->meant_port;
}

/* What the packet answers for. */
static __always_inline void note_original(struct context *c, const struct ct_value *flow)
{
	__builtin_memcpy(c->meant_address.w, flow->original, sizeof(flow->original));
	c->meant_port = flow->original_port;
}

static __always_inline void stamp_translation(struct translation *translation, __u32 tag, __u32 side)
{
	translation->head = translation->tail = (__u64)bpf_get_prandom_u32() << 32 | tag;
	translation->hold = tag;
	translation->side = side;
}

/* Its flow was just written, or stands and goes by the tables of now. Returns a reason. */
__attribute__((noinline)) int write_translation(struct context *c)
{
	struct translation *live;

	c = own_context(c);
	if (!c)
		return REASON_TABLE_ERROR;
	live = bpf_map_lookup_elem(&translation_map, &c->meant);
	if (live && !hold_translation(live, c->meant_tag))
		return REASON_CONNTRACK_FULL;
	stamp_translation(&c->translation, c->meant_tag, c->meant_side);
	if (!bpf_map_update_elem(&translation_map, &c->meant, &c->translation,
				 live ? BPF_EXIST : BPF_NOEXIST))
		return REASON_NONE;
	if (live)
		let_go(live, c->meant_tag);
	return REASON_CONNTRACK_FULL;
}

#endif

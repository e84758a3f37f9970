/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Peer address → identity → layer by layer: base table and class table, the earlier rule wins. */
#ifndef MOAT_POLICY_H
#define MOAT_POLICY_H

#include <bpf/bpf_endian.h>

#include "endpoint.h"

/* One leg's question. `first`..`last` is one position, or a protocol's whole range where the ports are not
 * known. */
struct question {
	__u64 changes;
	__u32 set;
	__u32 identity;
	__u32 first;
	__u32 last;
	/* The answer */
	__u32 rule;
	__u32 own; /* of a denial: policies of the endpoint's own namespace alone say so */
};

/*
 * Index of the record that decides position..last in the table at this offset; 0 = not decided there. A
 * record that covers only a part of position..last is returned too: see covers().
 */
__attribute__((noinline)) int arena_search(__u32 offset, __u32 position)
{
	struct arena_record *record = bpf_map_lookup_elem(&arena, &offset);
	__u32 low = 0,
	      high; /* the answer is the last record in [low, high) that starts at or before position */

	if (!record || offset == 0)
		return 0;
	high = record->start;
	for (int i = 0; i < ARENA_STEPS + 1; i++) {
		__u32 middle, index;

		if (low >= high)
			break;
		middle = low + (high - low) / 2;
		index = offset + 1 + middle;
		record = bpf_map_lookup_elem(&arena, &index);
		if (!record)
			return 0;
		if (record->start <= position)
			low = middle + 1;
		else
			high = middle;
	}
	return low ? offset + low : 0;
}

/* True where the record at index also holds `last`: the table's next record starts after it, or there is
 * none. */
static __always_inline int covers(__u32 offset, __u32 index, __u32 last)
{
	struct arena_record *header = bpf_map_lookup_elem(&arena, &offset), *next;

	if (!header)
		return 0;
	if (index == offset + header->start)
		return 1;
	index++;
	next = bpf_map_lookup_elem(&arena, &index);
	return next && next->start > last;
}

/* Arena offset of the class (layer, identity); 0 = none. *torn is set where the element was recycled each
 * time. */
static __always_inline __u32 find_class(const struct question *q, __u32 layer, int *torn)
{
	struct class_key key = {.layer = layer, .identity = q->identity & ~IDENTITY_UNKNOWN};
	int missed = 0;

	for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
		struct tagged *word = bpf_map_lookup_elem(&class_map, &key), found;

		if (!word) {
			if (missed++ || is_quiet(q->changes))
				return 0;
			continue;
		}
		found = read_tagged(word);
		if (found.tag == class_tag(key.layer, key.identity))
			return found.value;
	}
	*torn = 1;
	return 0;
}

/* What a table says: its record in *into; an undecided one where it says nothing. Returns a reason. */
static __always_inline int ask_table(__u32 offset, const struct question *q, struct arena_record *into)
{
	struct arena_record *record;
	__u32 index;

	into->action = ACTION_UNDECIDED;
	into->order = 0xffffffff;
	if (!offset)
		return REASON_NONE;
	index = arena_search(offset, q->first);
	if (q->first != q->last) {
		/* Before the first record nothing is decided: then the first record must start after `last`.
		 */
		if (!covers(offset, index ? index : offset, q->last))
			return REASON_FRAGMENT_UNKNOWN;
	}
	if (!index)
		return REASON_NONE;
	record = bpf_map_lookup_elem(&arena, &index);
	if (!record)
		return REASON_TABLE_ERROR;
	if (record->action == ACTION_UNDECIDED)
		return REASON_NONE;
	*into = *record;
	return REASON_NONE;
}

static __always_inline struct set_slot *find_set(__u32 set)
{
	struct tagged *word = bpf_map_lookup_elem(&set_map, &set), found;

	if (!word)
		return 0;
	found = read_tagged(word);
	if (found.tag != set + 1)
		return 0;
	return bpf_map_lookup_elem(&set_slots, &found.value);
}

/* Judges one leg. Returns a reason; the deciding rule in q->rule, whichever way it decided. */
__attribute__((noinline)) int judge(struct question *q)
{
	struct set_slot *set;

	if (!q)
		return REASON_TABLE_ERROR;
	q->rule = q->own = 0;
	set = find_set(q->set);
	if (!set || set->count > MAX_LAYERS)
		return REASON_TABLE_ERROR;
	for (__u32 i = 0; i < MAX_LAYERS; i++) {
		struct arena_record base, class;
		int torn = 0, reason;

		if (i >= set->count)
			break;
		reason = ask_table(set->layers[i].base, q, &base);
		if (reason)
			return reason;
		reason = ask_table(find_class(q, set->layers[i].layer, &torn), q, &class);
		if (reason || torn)
			return torn ? REASON_TABLE_ERROR : reason;
		if (class.action != ACTION_UNDECIDED &&
		    (base.action == ACTION_UNDECIDED || class.order < base.order))
			base = class;
		if (base.action == ACTION_UNDECIDED || base.action == ACTION_PASS)
			continue;
		q->rule = base.rule;
		/* Stands for a table that found no room. */
		if (!base.rule)
			return REASON_TABLE_ERROR;
		if (base.action == ACTION_ALLOW)
			return REASON_NONE;
		q->own = base.action & ACTION_OWN;
		return q->identity & IDENTITY_UNKNOWN ? REASON_PEER_UNKNOWN : REASON_POLICY;
	}
	return REASON_NONE;
}

static __always_inline void mask_word(__u32 *word, int bits)
{
	if (bits <= 0)
		*word = 0;
	else if (bits < 32)
		*word &= bpf_htonl(0xffffffffu << (32 - bits));
}

/* A prefix tree's value belongs to the prefix of `address` with the length that it names, or it was recycled.
 */
static __always_inline int prefix_tag_fits(struct context *c, const struct addr *address, __u32 tag)
{
	int length = tag >> 24;

	c->masked = *address;
#pragma unroll
	for (int i = 0; i < 4; i++)
		mask_word(&c->masked.w[i], length - 32 * i);
	return (addr_tag(&c->masked) & 0xffffff) == (tag & 0xffffff);
}

static __always_inline struct tagged *find_prefix(struct context *c, const struct addr *address, __u32 bank)
{
	if (address->family == 4) {
		c->prefix4.length = 32;
		c->prefix4.w[0] = address->w[0];
		return bank ? bpf_map_lookup_elem(&prefix4_b, &c->prefix4)
			    : bpf_map_lookup_elem(&prefix4_a, &c->prefix4);
	}
	c->prefix6.length = 128;
#pragma unroll
	for (int i = 0; i < 4; i++)
		c->prefix6.w[i] = address->w[i];
	return bank ? bpf_map_lookup_elem(&prefix6_b, &c->prefix6)
		    : bpf_map_lookup_elem(&prefix6_a, &c->prefix6);
}

/* The prefix tree's word for an address, seen alike twice where the trees are being changed. Returns 0 for
 * none. */
static __always_inline int read_prefix(struct context *c, const struct addr *address, __u32 bank,
				       struct tagged *into)
{
	struct tagged before = {};

	for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
		struct tagged *word = find_prefix(c, address, bank);

		if (!word)
			continue;
		*into = read_tagged(word);
		if (!prefix_tag_fits(c, address, into->tag))
			continue;
		if (is_quiet(c->changes) || (before.tag == into->tag && before.value == into->value))
			return 1;
		before = *into;
	}
	return 0;
}

/* The identity of an address, in the bank that the judging endpoint's sets speak of. Returns a reason. */
__attribute__((noinline)) int find_identity(struct context *c, const struct addr *address, __u32 bank)
{
	struct tagged *word, found;
	struct addr own;
	int missed = 0;
	__u32 tag;

	c = own_context(c);
	if (!c || !address)
		return REASON_TABLE_ERROR;
	if (strict_keys) {
		own = *address;
		address = &own;
	}
	tag = addr_tag(address);
	for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
		word = bank ? bpf_map_lookup_elem(&address_map_b, address)
			    : bpf_map_lookup_elem(&address_map_a, address);
		if (!word) {
			if (missed++ || is_quiet(c->changes))
				break;
			continue;
		}
		found = read_tagged(word);
		c->identity = found.value;
		c->exact = 1;
		if (found.tag == tag)
			return REASON_NONE;
		missed = 0;
	}
	c->exact = 0;
	if (!missed)
		return REASON_TABLE_ERROR;
	/* No identity: the address found no room among the exact ones. */
	if (!read_prefix(c, address, bank, &found) || !found.value)
		return REASON_NO_IDENTITY;
	c->identity = found.value;
	return REASON_NONE;
}

#endif

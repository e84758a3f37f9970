/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What user space has run once every hook has this layout's programs: connections that have not spoken since
 * are carried over, too. */
#ifndef MOAT_CARRY_H
#define MOAT_CARRY_H

#include "backend.h"
#include "related.h"

struct carry {
	__u64 now;
	__u64 refused;
};

/* What is carried, and what gives way to it: no stack has room for all of it. One process carries at a time,
 * and no packet's program comes here. */
struct carried {
	struct ct_key key;
	struct ct_value entry;
	struct ct_key gone[2];
};
MAP(BPF_MAP_TYPE_ARRAY, earlier_carried, __u32, struct carried, 1, 0);

static __always_inline struct carried *the_carried(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&earlier_carried, &zero);
}

/* The interface of a local address; 0 where it is not local. */
static __always_inline __u32 interface_at(const struct ct_key *key, __u32 side)
{
	struct addr address = {.family = key->family & ~KEY_ONE_WAY};
	struct endpoint *record;
	struct tagged *word;

	for (int i = 0; i < 4; i++)
		address.w[i] = side ? key->address[1][i] : key->address[0][i];
	word = bpf_map_lookup_elem(&endpoint_map, &address);
	record = word ? bpf_map_lookup_elem(&endpoint_slots, &word->value) : 0;
	return record ? record->ifindex : 0;
}

/* An element of an earlier layout's table, in this one. */
static __always_inline void take_earlier(const void *raw_key, const void *raw_entry, struct ct_key *key,
					 struct ct_value *entry)
{
	__builtin_memset(key, 0, sizeof(*key));
	__builtin_memset(entry, 0, sizeof(*entry));
	move_bytes(earlier_key_back, key, raw_key);
	move_bytes(earlier_value, entry, raw_entry);
}

/* A place for an entry that no packet brought. Returns 0 where there is one. */
static __always_inline long place_entry(const struct ct_key *key, struct ct_value *entry, struct ct_key *gone,
					__u64 now)
{
	struct share *all = total_share(), *own = share_of(entry->holder);
	__s64 place;

	if (!all || !own)
		return 1;
	if (entry->tcp == TCP_OPEN && take_share(all, own, GREED)) {
		entry->flags |= ENTRY_ASSURED;
		entry->place = no_place(own);
		if (!bpf_map_update_elem(&ct_map, key, entry, BPF_NOEXIST))
			return 0;
		give_share(all, own);
		return 1;
	}
	if (entry->tcp == TCP_OPEN && !(entry->flags & ENTRY_TOMBSTONE))
		return 1;
	place = take_place(all, own, entry->holder, key, gone, now);
	if (place < 0)
		return 1;
	entry->place = place;
	return bpf_map_update_elem(&ct_map, key, entry, BPF_NOEXIST);
}

/* To whom the packets of a connection to a Service go, from what its entry says. No process of now vouches
 * for that backend: datagrams choose anew, and others stay, also where there is no such Service any more. */
static __always_inline void restore_translation(const struct ct_key *key, const struct ct_value *flow)
{
	__u32 side = flow->initiator & 1, tag;
	struct translation translation = {.generation = ~0u};
	struct addr service = {.family = key->family & ~KEY_ONE_WAY};
	struct ct_key meant;

	translation.port = side ? key->port[0] : key->port[1];
	for (int i = 0; i < 4; i++)
		translation.address[i] = side ? key->address[0][i] : key->address[1][i];
	if (is_elsewhere(flow)) {
		translation.self_port = side ? key->port[1] : key->port[0];
		for (int i = 0; i < 4; i++)
			translation.self[i] = side ? key->address[1][i] : key->address[0][i];
	}
	side = name_meant(key, flow, &meant);
	tag = ct_tag(&meant);
	stamp_translation(&translation, tag, side);
	bpf_map_update_elem(&translation_map, &meant, &translation, BPF_NOEXIST);
	__builtin_memcpy(service.w, flow->original, sizeof(service.w));
	mark_service(&service);
}

/* Before any hook has this layout's programs, so that packets to Services are sent on from the first one; and
 * again once all of them do, for connections that began between. */
static long carry_translation(void *map, const void *raw_key, void *raw_entry, void *raw_carry)
{
	struct carried *carried = the_carried();
	struct carry *carry = raw_carry;

	(void)map;
	if (!carried)
		return 1;
	take_earlier(raw_key, raw_entry, &carried->key, &carried->entry);
	if ((carried->entry.flags & ENTRY_SERVICE) && !is_stale(&carried->entry, &carried->key, carry->now))
		restore_translation(&carried->key, &carried->entry);
	return 0;
}

static long carry_connection(void *map, const void *raw_key, void *raw_entry, void *raw_carry)
{
	struct carried *carried = the_carried();
	struct carry *carry = raw_carry;
	struct ct_value *entry;
	struct ct_key *key;

	(void)map;
	if (!carried)
		return 1;
	key = &carried->key;
	entry = &carried->entry;
	take_earlier(raw_key, raw_entry, key, entry);
	/* Its own packets were faster, or it is over. */
	if (bpf_map_lookup_elem(&ct_map, key) || is_stale(entry, key, carry->now) ||
	    (key->family & KEY_FRAGMENT))
		return 0;
	entry->holder = interface_at(key, entry->initiator);
	if (!entry->holder)
		entry->holder = interface_at(key, !entry->initiator);
	/* Of one between others (forward.h) no uplink is known here: it has no holder. */
	if (!entry->holder && !is_elsewhere(entry))
		return 0;
	make_unjudged(entry);
	stamp(entry, ct_tag(key));
	if (place_entry(key, entry, carried->gone, carry->now))
		carry->refused++;
	return 0;
}

#endif

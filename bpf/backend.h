/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Who serves: what programs of packets and those of the node's own sockets ask of the tables of Services. */
#ifndef MOAT_BACKEND_H
#define MOAT_BACKEND_H

#include "state.h"
#include "tag.h"

/* There is, or was, a Service. */
static __always_inline int has_marks(void)
{
	struct state *state = node_state();

	return state && *(volatile __u64 *)&state->marked;
}

/* An address whose tag this is may be, or have been, a Service's. */
static __always_inline int is_marked(__u32 tag)
{
	__u32 mark = tag & (SERVICE_MARKS - 1), word = mark / 64;
	__u64 *marks = bpf_map_lookup_elem(&service_marks, &word);

	return marks && (*(volatile __u64 *)marks >> (mark & 63) & 1);
}

/* Packets to this address may be to a Service from now on. */
static __always_inline void mark_service(const struct addr *address)
{
	__u32 mark = addr_tag(address) & (SERVICE_MARKS - 1), word = mark / 64;
	__u64 *marks = bpf_map_lookup_elem(&service_marks, &word);
	struct state *state = node_state();

	if (!marks || !state)
		return;
	__sync_fetch_and_or(marks, 1ull << (mark & 63));
	*(volatile __u64 *)&state->marked = 1;
}

/* A port of a Service; 0 where there is none. `torn`: there is one, and its record was not found. `changes`:
 * of the hashes, before the look-up. */
static __always_inline struct service *find_service(const struct service_key *key, __u64 changes, int *torn)
{
	int missed = 0;

	*torn = 0;
	for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
		struct tagged *word = bpf_map_lookup_elem(&service_map, key), found;

		if (!word) {
			if (missed++ || is_quiet(changes))
				return 0;
			continue;
		}
		found = read_tagged(word);
		if (found.tag == service_tag(key)) {
			struct service *service = bpf_map_lookup_elem(&service_slots, &found.value);

			*torn = !service;
			return service;
		}
	}
	*torn = 1;
	return 0;
}

static __always_inline int is_serving(__u32 slot, __u32 generation)
{
	struct backend *backend = bpf_map_lookup_elem(&backend_slots, &slot);

	return backend && *(volatile __u64 *)&backend->live == ((__u64)slot << 32 | generation);
}

/* The slot of a place's backend. Returns 0 where there is no such place. */
static __always_inline int read_place(const struct service *service, __u32 place, __u32 *slot)
{
	__u32 record = service->places + place / PLACES_RECORD;
	struct service_places *places = bpf_map_lookup_elem(&service_places, &record);

	if (!places)
		return 0;
	*slot = places->backend[place & (PLACES_RECORD - 1)];
	return 1;
}

#endif

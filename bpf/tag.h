/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Tags of keys. A look-up in a hash under update can return another key's value; the tag beside the value
 * tells. src/datapath/ebpf/encode/tag.ts computes the same numbers. */
#ifndef MOAT_TAG_H
#define MOAT_TAG_H

#include "abi.h"

static __always_inline __u32 mix(__u32 hash, __u32 word)
{
	hash = (hash ^ word) * 0x85ebca6bu;
	return hash ^ (hash >> 15);
}

static __always_inline __u32 addr_tag(const struct addr *a)
{
	__u32 hash = mix(0x9e3779b1u, a->family);

	hash = mix(hash, a->w[0]);
	if (a->family != 4) {
		hash = mix(hash, a->w[1]);
		hash = mix(hash, a->w[2]);
		hash = mix(hash, a->w[3]);
	}
	return hash;
}

static __always_inline __u32 class_tag(__u32 layer, __u32 identity)
{
	return mix(mix(0x7f4a7c15u, layer), identity);
}

static __always_inline __u32 service_tag(const struct service_key *key)
{
	return mix(mix(addr_tag(&key->address), key->protocol | key->scope << 8), key->port);
}

/* Only the kernel computes this one: products that do not wait for one another, since it is on every packet's
 * way. The factors are odd and otherwise arbitrary. */
static __always_inline __u32 ct_tag(const struct ct_key *key)
{
	const __u64 *words = (const __u64 *)key;
	__u64 sum = words[0] * 0x9e3779b97f4a7c15ull;

	sum += (words[1] ^ (words[1] >> 32)) * 0xff51afd7ed558ccdull;
	sum += (words[2] ^ (words[2] >> 32)) * 0xc4ceb9fe1a85ec53ull;
	sum += (words[3] ^ (words[3] >> 32)) * 0xbf58476d1ce4e5b9ull;
	sum += (words[4] ^ (words[4] >> 32)) * 0x94d049bb133111ebull;
	return (sum ^ (sum >> 29)) >> 32;
}

/* The first end's side in a flow's key: 0 is the lower (address, port). */
static __always_inline __u32 side_of(const __u32 *a, __u16 a_port, const __u32 *b, __u16 b_port)
{
#pragma unroll
	for (int i = 0; i < 4; i++)
		if (a[i] != b[i])
			return a[i] > b[i];
	return a_port > b_port;
}

static __always_inline int addr_equal(const struct addr *a, const struct addr *b)
{
	return a->family == b->family && a->w[0] == b->w[0] && a->w[1] == b->w[1] && a->w[2] == b->w[2] &&
	       a->w[3] == b->w[3];
}

/* One 8-byte load of a map value. */
static __always_inline struct tagged read_tagged(const struct tagged *from)
{
	union {
		__u64 word;
		struct tagged tagged;
	} both;

	both.word = *(const volatile __u64 *)from;
	return both.tagged;
}

#endif

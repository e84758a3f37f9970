/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How long an entry lives without a packet. */
#ifndef MOAT_AGE_H
#define MOAT_AGE_H

#include <linux/in.h>

#include "maps.h"

static __always_inline __u64 entry_timeout(const struct ct_value *entry, const struct ct_key *key)
{
	if (entry->flags & ENTRY_TOMBSTONE)
		return timeout_tombstone;
	if (key->family & KEY_FRAGMENT)
		return timeout_fragment;
	if (key->protocol == IPPROTO_UDP)
		return timeout_udp;
	if (key->protocol != IPPROTO_TCP)
		return timeout_other;
	if (entry->tcp == TCP_OPEN)
		return timeout_tcp_open;
	return entry->tcp == TCP_CLOSING ? timeout_tcp_closing : timeout_tcp_half;
}

/* Signed: another CPU may have seen a packet after we read the clock. */
static __always_inline int is_stale(const struct ct_value *entry, const struct ct_key *key, __u64 now)
{
	return (__s64)(now - entry->last_seen) > (__s64)entry_timeout(entry, key);
}

#endif

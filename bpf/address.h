/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What addresses are by themselves, whoever has them. */
#ifndef MOAT_ADDRESS_H
#define MOAT_ADDRESS_H

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>

#include "abi.h"

/* Multicast and broadcast have no endpoint to be judged for. */
static __always_inline int is_group(const struct addr *a)
{
	return a->family == 6 ? (a->w[0] & 0xff) == 0xff : (a->w[0] & 0xff) >= 224;
}

/* Where a pod's own packets come from that a Service sends back to it (hairpin.h): 169.254.77.1, of the block
 * of a link alone (RFC 3927), and 100::6d6f:6174, of the one that is to be discarded (RFC 6666). */
static __always_inline void make_hairpin(struct addr *a)
{
	a->w[0] = a->family == 4 ? bpf_htonl(0xa9fe4d01) : bpf_htonl(0x01000000);
	a->w[1] = a->w[2] = 0;
	a->w[3] = a->family == 4 ? 0 : bpf_htonl(0x6d6f6174);
}

static __always_inline int is_hairpin(const struct addr *a)
{
	if (a->family == 4)
		return a->w[0] == bpf_htonl(0xa9fe4d01);
	return a->w[0] == bpf_htonl(0x01000000) && !(a->w[1] | a->w[2]) && a->w[3] == bpf_htonl(0x6d6f6174);
}

/* Addresses that no packet between machines has (RFC 1122, section 3.2.1.3; RFC 4291, section 2.5): this host
 * and loopback, which some nodes would deliver to services of their own; and one that only pods see. */
static __always_inline int is_nowhere(const struct addr *a)
{
	if (is_hairpin(a))
		return 1;
	if (a->family == 4)
		return (a->w[0] & 0xff) == 0 || (a->w[0] & 0xff) == 127;
	return !(a->w[0] | a->w[1] | a->w[2]) && (a->w[3] == 0 || a->w[3] == bpf_htonl(1));
}

static __always_inline int is_nobody(const struct addr *a)
{
	return is_nowhere(a) || is_group(a);
}

/* Whether packets may go there at all, whoever sends them. Returns a reason. */
static __always_inline int check_destination(const struct addr *a)
{
	if (is_group(a))
		return REASON_MULTICAST;
	return is_nowhere(a) ? REASON_MALFORMED : REASON_NONE;
}

#endif

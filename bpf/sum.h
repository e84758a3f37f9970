/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Checksums that a pod left to be made on the packet's way (CHECKSUM_PARTIAL). A device or the host's stack
 * writes them where the pod said, after the packet was judged: never over what is read of it. */
#ifndef MOAT_SUM_H
#define MOAT_SUM_H

#include <bpf/bpf_core_read.h>

#include "parse.h"

#define SUM_LEFT 3 /* CHECKSUM_PARTIAL */

/* The kernel's own struct, as far as it is read here. */
struct sk_buff {
	__u16 csum_start;
	__u16 csum_offset;
	__u16 network_header;
	__u8 ip_summed : 2;
} __attribute__((preserve_access_index));

/* From Linux 6.2 on; where it is missing the loader takes the branch away. */
extern void *bpf_cast_to_kern_ctx(void *ctx) __weak __ksym;

/* Where in the frame the sum will be written; 0 = nowhere, none is left to be made. */
static __always_inline __u32 sum_place(struct __sk_buff *skb)
{
	struct sk_buff *kernel;
	__u16 start = 0, offset = 0, network = 0;

	if (strict_keys) {
		kernel = (void *)skb;
		if (BPF_CORE_READ_BITFIELD_PROBED(kernel, ip_summed) != SUM_LEFT)
			return 0;
		bpf_core_read(&start, sizeof(start), &kernel->csum_start);
		bpf_core_read(&offset, sizeof(offset), &kernel->csum_offset);
		bpf_core_read(&network, sizeof(network), &kernel->network_header);
	} else {
		kernel = bpf_cast_to_kern_ctx(skb);
		if (BPF_CORE_READ_BITFIELD(kernel, ip_summed) != SUM_LEFT)
			return 0;
		start = kernel->csum_start;
		offset = kernel->csum_offset;
		network = kernel->network_header;
	}
	/* Before the IP header: in front of everything that is read. */
	return start < network ? 1 : ETH_HLEN + start - network + offset;
}

/* Whether a sum still to be made would be written over what is judged by: all up to the packet's end, but a
 * transport header's own sum, and what stands behind that header. */
static __always_inline int spoils(__u32 place, __u32 protocol, __u32 transport, __u32 end)
{
	if (!place)
		return 0;
	if (protocol == IPPROTO_TCP)
		return place != transport + 16 && place < transport + 20;
	if (protocol == IPPROTO_UDP)
		return place != transport + 6 && place < transport + 8;
	if (protocol == IPPROTO_SCTP)
		return place != transport + 8 && place < transport + 12;
	/* Of an ICMP error the packet in it is read, too; kernels make these sums at once. */
	return place < (protocol == IPPROTO_ICMP || protocol == PROTO_ICMPV6 ? end : transport);
}

#endif

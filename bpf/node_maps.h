/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The maps that programs of packets and those of the node's own sockets look into, one sentence each. */
#ifndef MOAT_NODE_MAPS_H
#define MOAT_NODE_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "service_abi.h"

#define SECOND 1000000000ull

/* Sizes are the defaults; user space may change them before load. */
#define MAP(kind, name_, key_, value_, size_, flags_)                                                        \
	struct {                                                                                             \
		__uint(type, kind);                                                                          \
		__uint(max_entries, size_);                                                                  \
		__uint(map_flags, flags_);                                                                   \
		__type(key, key_);                                                                           \
		__type(value, value_);                                                                       \
	} name_ SEC(".maps")

/* Local addresses → slot of their endpoint record. */
MAP(BPF_MAP_TYPE_HASH, endpoint_map, struct addr, struct tagged, 4096, BPF_F_NO_PREALLOC);
/* The node's own numbers. */
MAP(BPF_MAP_TYPE_ARRAY, state_map, __u32, struct state, 1, BPF_F_MMAPABLE);
/* Ports of Services → slot of their record. */
MAP(BPF_MAP_TYPE_HASH, service_map, struct service_key, struct tagged, 65536, BPF_F_NO_PREALLOC);
/* Their records, immutable. */
MAP(BPF_MAP_TYPE_ARRAY, service_slots, __u32, struct service, 131072, BPF_F_MMAPABLE);
/* Their places, immutable. */
MAP(BPF_MAP_TYPE_ARRAY, service_places, __u32, struct service_places, 524288, BPF_F_MMAPABLE);
/* Who serves. */
MAP(BPF_MAP_TYPE_ARRAY, backend_slots, __u32, struct backend, 131072, BPF_F_MMAPABLE);
/* Bits of hashes of addresses that are, or were, a Service's. */
MAP(BPF_MAP_TYPE_ARRAY, service_marks, __u32, __u64, SERVICE_MARKS / 64, BPF_F_MMAPABLE);
/* Clients of Services that keep them with their backends. What finds no room takes the place of the longest
 * unused. */
MAP(BPF_MAP_TYPE_LRU_HASH, affinity_map, struct affinity_key, struct affinity, 16384, 0);

#endif

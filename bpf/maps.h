/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The maps of programs that judge packets, one sentence each, and the knobs that user space sets between open
 * and load. */
#ifndef MOAT_MAPS_H
#define MOAT_MAPS_H

#include "node_maps.h"

/* Endpoint records, immutable. */
MAP(BPF_MAP_TYPE_ARRAY, endpoint_slots, __u32, struct endpoint, 16384, BPF_F_MMAPABLE);
/* Interface → the pod's MAC (6 bytes) and the low 16 bits of the interface as a tag. */
MAP(BPF_MAP_TYPE_HASH, iface_map, __u32, __u64, 4096, BPF_F_NO_PREALLOC);
/* Addresses of nodes → enum node_owner. */
MAP(BPF_MAP_TYPE_HASH, node_map, struct addr, struct tagged, 16384, BPF_F_NO_PREALLOC);
/* Uplinks where packets may go past the stack → enum uplink_flag; the tag is the interface. */
MAP(BPF_MAP_TYPE_HASH, uplink_map, __u32, struct tagged, 64, BPF_F_NO_PREALLOC);
/* Exact addresses → identity. Two banks: a new agent fills the other one before any endpoint turns to it. */
MAP(BPF_MAP_TYPE_HASH, address_map_a, struct addr, struct tagged, 262144, BPF_F_NO_PREALLOC);
MAP(BPF_MAP_TYPE_HASH, address_map_b, struct addr, struct tagged, 262144, BPF_F_NO_PREALLOC);
/* Prefixes → identity, and length << 24 | a 24-bit tag of the prefix. */
MAP(BPF_MAP_TYPE_LPM_TRIE, prefix4_a, struct prefix4_key, struct tagged, 1048576, BPF_F_NO_PREALLOC);
MAP(BPF_MAP_TYPE_LPM_TRIE, prefix4_b, struct prefix4_key, struct tagged, 1048576, BPF_F_NO_PREALLOC);
MAP(BPF_MAP_TYPE_LPM_TRIE, prefix6_a, struct prefix6_key, struct tagged, 1048576, BPF_F_NO_PREALLOC);
MAP(BPF_MAP_TYPE_LPM_TRIE, prefix6_b, struct prefix6_key, struct tagged, 1048576, BPF_F_NO_PREALLOC);
/* (layer, identity) → arena offset of the table; those of two agents, while one takes over from another. */
MAP(BPF_MAP_TYPE_HASH, class_map, struct class_key, struct tagged, 1048576, BPF_F_NO_PREALLOC);
/* Port tables, each a header and sorted records; offset 0 is no table. */
MAP(BPF_MAP_TYPE_ARRAY, arena, __u32, struct arena_record, 1048576, BPF_F_MMAPABLE);
/* Policy set → its slot; the tag is 1 + the set, so an empty element is no set. */
MAP(BPF_MAP_TYPE_ARRAY, set_map, __u32, struct tagged, 16384, BPF_F_MMAPABLE);
/* Policy sets' layers, immutable. */
MAP(BPF_MAP_TYPE_ARRAY, set_slots, __u32, struct set_slot, 32768, BPF_F_MMAPABLE);
/* Policy set → flows judged before this epoch are judged again. */
MAP(BPF_MAP_TYPE_ARRAY, set_epoch, __u32, __u64, 16384, BPF_F_MMAPABLE);
/* Hash of a peer's address → the same. */
MAP(BPF_MAP_TYPE_ARRAY, peer_epoch, __u32, __u64, 65536, BPF_F_MMAPABLE);
/* Flows. Assured ones nothing takes away before their time: established TCP, datagrams that go on, and such
 * flows once cut; a pod without room for more is refused. The rest, half-open and closing TCP, datagrams of
 * late, fragmented ones: a pod without room gives up its oldest. */
MAP(BPF_MAP_TYPE_HASH, ct_map, struct ct_key, struct ct_value, 262144, 0);
/* The keys of flows that are not assured by interface, oldest first. */
MAP(BPF_MAP_TYPE_HASH, queue_map, struct queue_key, struct queue_part, 16384, 0);
/* Interface → the room that its pod takes. */
MAP(BPF_MAP_TYPE_HASH, share_map, __u32, struct share, 4096, 0);
/* The room that all of them take. */
MAP(BPF_MAP_TYPE_ARRAY, total_map, __u32, struct share, 1, 0);
/* Flows as they came from the wire, handed to the stack → when (ns >> 20) << 32 | tag of the key. */
MAP(BPF_MAP_TYPE_LRU_HASH, wire_map, struct ct_key, __u64, 8192, 0);
/* Drops of one tuple within a short window are one event; the sweep takes old ones away. */
MAP(BPF_MAP_TYPE_HASH, drop_map, struct drop_key, struct drop_value, 16384, 0);
/* Flows to Services, as their initiators send them → backends. One at most for each flow in ct_map, gone with
 * it. */
MAP(BPF_MAP_TYPE_HASH, translation_map, struct ct_key, struct translation, 262144, BPF_F_NO_PREALLOC);
/* What was dropped, passed and lost. */
MAP(BPF_MAP_TYPE_PERCPU_ARRAY, counter_map, __u32, struct counters, 1, 0);

/* The connection tables of an agent with another layout, from which this one takes over (earlier.h). */
MAP(BPF_MAP_TYPE_HASH, earlier_ct_a, struct ct_key, struct ct_value, 1, BPF_F_NO_PREALLOC);
MAP(BPF_MAP_TYPE_HASH, earlier_ct_b, struct ct_key, struct ct_value, 1, BPF_F_NO_PREALLOC);

/* Events to user space. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} event_ring SEC(".maps");

/* Knobs. Times are nanoseconds. */
const volatile __u64 timeout_tcp_open = 86400 * SECOND;
const volatile __u64 timeout_tcp_half = 60 * SECOND;
const volatile __u64 timeout_tcp_closing = 60 * SECOND;
const volatile __u64 timeout_udp = 120 * SECOND;
const volatile __u64 timeout_other = 60 * SECOND;
const volatile __u64 timeout_tombstone = 120 * SECOND;
const volatile __u64 timeout_fragment = 30 * SECOND;
const volatile __u64 timeout_left = 60 * SECOND; /* of a pod that has gone */
const volatile __u64 assured_after = 2 * SECOND; /* datagrams: the holder still speaks then */
const volatile __u64 drop_window = 1 * SECOND;
const volatile __u64 drop_rate = 2000;    /* drop events per interface and second, and as many of audits */
const volatile __u64 flow_rate = 5000;    /* events of connections, the same */
const volatile __u64 refusal_rate = 1000; /* answers to what nobody serves, the same */
const volatile __u32 proxy_mark = 0x4d000000;
const volatile __u32 proxy_mark_mask = 0xff000000;
/* How many flows in ct_map may be assured; 0 = half of them. */
const volatile __u32 assured_room = 0;
/* Kernels before 6.6 take keys from the stack and from maps, not from memory that a function was handed. */
const volatile __u32 strict_keys = 0;
/* Not 0: there are such tables. What of a key goes where, there and back; and of a value. */
const volatile __u32 earlier = 0;
const volatile __u32 earlier_head = 0; /* where a value begins with its stamp */
const volatile struct move earlier_key[EARLIER_MOVES] = {};
const volatile struct move earlier_key_back[EARLIER_MOVES] = {};
const volatile struct move earlier_value[EARLIER_MOVES] = {};

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What sockets of the node's own clients remember of the Services that they meant. It lives and ends with the
 * socket, so that none takes another's room. */
#ifndef MOAT_SOCKETS_H
#define MOAT_SOCKETS_H

#include "node_maps.h"
#include "tag.h"

/* The last so many; which a socket that speaks to more hears of is told as it is, from the backend. */
#define KEPT 8

/* IPv4 also where the socket is of IPv6. */
struct end {
	struct addr address;
	__u16 port;
	__u16 pad;
};

struct meant {
	struct end service;
	struct end backend;
	__u32 slot; /* of the backend */
	__u32 generation;
};

/* It outlives a process as tables do: abi.h's version is for its layout, too. */
struct socket_memory {
	struct bpf_spin_lock lock; /* threads may share a socket */
	__u32 next;
	struct meant last[KEPT];
};

_Static_assert(sizeof(struct meant) == 56, "meant has no hidden padding");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct socket_memory);
} socket_map SEC(".maps");

static __always_inline int is_same_end(const struct end *a, const struct end *b)
{
	return a->port == b->port && addr_equal(&a->address, &b->address);
}

/* Finds by `service` where the socket's datagrams go. Returns 0 where it does not remember. */
static __always_inline int recall_meant(struct bpf_sock_addr *ctx, struct meant *meant)
{
	struct socket_memory *memory = bpf_sk_storage_get(&socket_map, ctx->sk, 0, 0);
	int found = 0;

	if (!memory)
		return 0;
	bpf_spin_lock(&memory->lock);
	for (__u32 i = 0; i < KEPT; i++) {
		/* The latest first. */
		struct meant *each = &memory->last[(memory->next - 1 - i) & (KEPT - 1)];

		if (!found && each->backend.port && is_same_end(&each->service, &meant->service)) {
			*meant = *each;
			found = 1;
		}
	}
	bpf_spin_unlock(&memory->lock);
	return found;
}

/* Finds by `backend` whom the socket meant. Returns 0 where it does not remember. */
static __always_inline int recall_service(struct bpf_sock_addr *ctx, struct meant *meant)
{
	struct socket_memory *memory = bpf_sk_storage_get(&socket_map, ctx->sk, 0, 0);
	int found = 0;

	if (!memory)
		return 0;
	bpf_spin_lock(&memory->lock);
	for (__u32 i = 0; i < KEPT; i++) {
		struct meant *each = &memory->last[(memory->next - 1 - i) & (KEPT - 1)];

		if (!found && each->service.port && is_same_end(&each->backend, &meant->backend)) {
			*meant = *each;
			found = 1;
		}
	}
	bpf_spin_unlock(&memory->lock);
	return found;
}

/* Returns 0 where there is no room. */
static __always_inline int remember_meant(struct bpf_sock_addr *ctx, const struct meant *meant)
{
	struct socket_memory *memory =
	    bpf_sk_storage_get(&socket_map, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	int found = 0;

	if (!memory)
		return 0;
	bpf_spin_lock(&memory->lock);
	for (__u32 i = 0; i < KEPT; i++) {
		struct meant *each = &memory->last[i];

		found |= is_same_end(&each->service, &meant->service) &&
			 is_same_end(&each->backend, &meant->backend) && each->slot == meant->slot &&
			 each->generation == meant->generation;
	}
	if (!found)
		memory->last[memory->next++ & (KEPT - 1)] = *meant;
	bpf_spin_unlock(&memory->lock);
	return 1;
}

#endif

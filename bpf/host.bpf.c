// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The node's own clients: what its sockets, and those of pods on its network, mean for a Service goes to a
 * backend from the start. These programs stand at the root of cgroup2, whose sockets are of every pod and
 * node on the machine: whatever is in another network namespace than the agent's is none of theirs. They
 * change where a socket asks to send, and judge nothing: its packets are judged as any of the node's. */
#include <linux/errno.h>
#include <linux/in.h>

#include "address.h"
#include "affinity.h"
#include "backend.h"
#include "sockets.h"

char license_text[] SEC("license") = "Dual BSD/GPL";

/* Knob: the cookie of the agent's network namespace. */
const volatile __u64 host_netns = 0;

/* What a program returns. */
#define GO_ON 1
#define REFUSED 0

static __always_inline int is_of_host(struct bpf_sock_addr *ctx)
{
	return bpf_get_netns_cookie(ctx) == host_netns;
}

static __always_inline int refuse(int error)
{
	bpf_set_retval(-error);
	return REFUSED;
}

/* The end that is meant, or that was met: that of an IPv4 address in a socket of IPv6, too. `v6`: of the
 * program, whose context has no others. */
static __always_inline struct end read_end(struct bpf_sock_addr *ctx, int v6)
{
	struct end end = {.port = bpf_ntohs(ctx->user_port)};

	if (!v6) {
		end.address.family = 4;
		end.address.w[0] = ctx->user_ip4;
		return end;
	}
	end.address.family = 6;
	for (int i = 0; i < 4; i++)
		end.address.w[i] = ctx->user_ip6[i];
	if (!end.address.w[0] && !end.address.w[1] && end.address.w[2] == bpf_htonl(0xffff)) {
		end.address.family = 4;
		end.address.w[0] = end.address.w[3];
		end.address.w[2] = end.address.w[3] = 0;
	}
	return end;
}

static __always_inline void write_end(struct bpf_sock_addr *ctx, int v6, const struct end *end)
{
	ctx->user_port = bpf_htons(end->port);
	if (!v6) {
		ctx->user_ip4 = end->address.w[0];
	} else if (end->address.family == 4) {
		ctx->user_ip6[3] = end->address.w[0];
	} else {
		for (int i = 0; i < 4; i++)
			ctx->user_ip6[i] = end->address.w[i];
	}
}

/* An address of a local endpoint is no Service's, whatever a Service says. */
static __always_inline int is_endpoint(const struct addr *address, __u64 changes)
{
	__u32 tag = addr_tag(address);
	int missed = 0;

	for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
		struct tagged *word = bpf_map_lookup_elem(&endpoint_map, address);

		if (!word) {
			if (missed++ || is_quiet(changes))
				return 0;
		} else if (read_tagged(word).tag == tag) {
			return 1;
		}
	}
	return 1;
}

/* A socket has a port only once it is sent off; its cookie is all that it has of its own. */
static __always_inline __u32 socket_hash(__u64 cookie, const struct service_key *key)
{
	__u32 hash = mix(mix(0x9e3779b1u, cookie), cookie >> 32);

	hash = mix(mix(hash, service_tag(key)), addr_tag(&key->address));
	return mix(hash, hash >> 16);
}

/* Copies the backend of a slot to `into`. Returns 0 where there is none. */
static __always_inline int read_backend(__u32 slot, struct meant *into)
{
	struct backend *backend = bpf_map_lookup_elem(&backend_slots, &slot);

	if (!backend || !backend->generation)
		return 0;
	into->backend.address.family = into->service.address.family;
	__builtin_memcpy(into->backend.address.w, backend->address, sizeof(backend->address));
	into->backend.port = backend->port;
	into->slot = slot;
	into->generation = backend->generation;
	return 1;
}

/* A backend for a socket that has none yet. All the node's clients are one to a Service that keeps clients:
 * nobody knows yet from which address they are going to send. Returns 0 where nobody serves. */
static __always_inline int choose(struct bpf_sock_addr *ctx, const struct service *service, __u64 now,
				  const struct service_key *key, struct meant *meant)
{
	struct affinity_key client = {.service = *key};
	__u32 hash = socket_hash(bpf_get_socket_cookie(ctx), key), slot;
	struct affinity known;

	if (!service->count || (service->clients & CLIENTS_NOT_NODE))
		return 0;
	if (service->affinity && read_affinity(&client, now, service->affinity, &known)) {
		hash = known.hash;
		if (is_serving(known.slot, known.generation) && read_backend(known.slot, meant))
			goto chosen;
	}
	if (!read_place(service, ((__u64)hash * service->count) >> 32, &slot) || !read_backend(slot, meant))
		return 0;
chosen:
	if (service->affinity)
		write_affinity(&client, &known, now, hash, meant->slot, meant->generation);
	return 1;
}

/* Sends a socket off to a backend, where it means a Service. What can't be told is refused. */
static __always_inline int send_off(struct bpf_sock_addr *ctx, int v6)
{
	struct state *state = node_state();
	struct meant meant = {};
	struct service_key key = {};
	struct service *service;
	__u64 now, changes;
	int torn;

	if (!is_of_host(ctx) || !state || !has_marks() ||
	    (ctx->protocol != IPPROTO_TCP && ctx->protocol != IPPROTO_UDP))
		return GO_ON;
	changes = *(volatile __u64 *)&state->changes;
	asm volatile("" ::: "memory");
	meant.service = read_end(ctx, v6);
	key.address = meant.service.address;
	key.port = meant.service.port;
	key.protocol = ctx->protocol;
	if (!is_marked(addr_tag(&key.address)) || is_endpoint(&key.address, changes))
		return GO_ON;
	service = find_service(&key, changes, &torn);
	if (!service && !torn)
		return GO_ON;
	now = bpf_ktime_get_coarse_ns() + state->skew;
	if (!service || (is_closed() && now >= *(volatile __u64 *)&state->bypass))
		return refuse(ECONNREFUSED);
	/* Datagrams of a socket stay with a backend as long as it serves. */
	if ((ctx->protocol != IPPROTO_UDP || !recall_meant(ctx, &meant) ||
	     !is_serving(meant.slot, meant.generation)) &&
	    !choose(ctx, service, now, &key, &meant))
		return refuse(ECONNREFUSED);
	/* The machine itself, or a group, which no Service has to offer. */
	if (is_nobody(&meant.backend.address))
		return refuse(ECONNREFUSED);
	/* Whom an unconnected socket hears is told by what it remembers. */
	if (!remember_meant(ctx, &meant) && ctx->protocol == IPPROTO_UDP)
		return refuse(ENOBUFS);
	write_end(ctx, v6, &meant.backend);
	return GO_ON;
}

/* Whoever is heard, or asked for: a backend that the socket was sent to is the Service that it meant. */
static __always_inline int tell_meant(struct bpf_sock_addr *ctx, int v6)
{
	struct meant meant = {};

	if (!is_of_host(ctx))
		return GO_ON;
	meant.backend = read_end(ctx, v6);
	if (recall_service(ctx, &meant))
		write_end(ctx, v6, &meant.service);
	return GO_ON;
}

SEC("cgroup/connect4")
int host_connect4(struct bpf_sock_addr *ctx)
{
	return send_off(ctx, 0);
}

SEC("cgroup/connect6")
int host_connect6(struct bpf_sock_addr *ctx)
{
	return send_off(ctx, 1);
}

SEC("cgroup/sendmsg4")
int host_sendmsg4(struct bpf_sock_addr *ctx)
{
	return send_off(ctx, 0);
}

SEC("cgroup/sendmsg6")
int host_sendmsg6(struct bpf_sock_addr *ctx)
{
	return send_off(ctx, 1);
}

SEC("cgroup/recvmsg4")
int host_recvmsg4(struct bpf_sock_addr *ctx)
{
	return tell_meant(ctx, 0);
}

SEC("cgroup/recvmsg6")
int host_recvmsg6(struct bpf_sock_addr *ctx)
{
	return tell_meant(ctx, 1);
}

SEC("cgroup/getpeername4")
int host_getpeername4(struct bpf_sock_addr *ctx)
{
	return tell_meant(ctx, 0);
}

SEC("cgroup/getpeername6")
int host_getpeername6(struct bpf_sock_addr *ctx)
{
	return tell_meant(ctx, 1);
}

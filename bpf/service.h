/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Services: what a pod sends to one goes to a backend, before anything else looks at it; what the backend
 * answers is the Service's where it enters that pod, and nowhere before. */
#ifndef MOAT_SERVICE_H
#define MOAT_SERVICE_H

#include "affinity.h"
#include "backend.h"
#include "clients.h"
#include "hairpin.h"
#include "self.h"

#define PLACES_TRIED 16

/* What a pod sends to an address that is, or was, a Service's, or shares its mark. One of a local endpoint
 * never is. */
static __always_inline int may_be_service(const struct context *c)
{
	return c->hook == HOOK_FROM_POD && !c->destination.ifindex && has_marks() &&
	       is_marked(addr_tag(&c->packet.destination));
}

/* As flowHash() in src/net/hash.ts. */
static __always_inline __u32 flow_hash(const struct packet *p)
{
	__u32 hash = 0x9e3779b1u;

	for (int i = 0; i < 4; i++)
		hash = mix(hash, p->source.w[i]);
	for (int i = 0; i < 4; i++)
		hash = mix(hash, p->destination.w[i]);
	hash = mix(hash, (__u32)p->source_port << 16 | p->destination_port);
	hash = mix(hash, p->protocol);
	return mix(hash, hash >> 16);
}

/* Copies a backend to c->translation. Returns 0 where there is none. */
static __always_inline int take_backend(struct context *c, __u32 slot)
{
	struct backend *backend = bpf_map_lookup_elem(&backend_slots, &slot);

	if (!backend || !backend->generation)
		return 0;
	__builtin_memcpy(c->translation.address, backend->address, sizeof(backend->address));
	c->translation.port = backend->port;
	c->translation.slot = slot;
	c->translation.generation = backend->generation;
	return 1;
}

/* That of a place. */
static __always_inline int take_place_of(struct context *c, const struct service *service, __u32 place)
{
	__u32 slot;

	return read_place(service, place, &slot) && take_backend(c, slot);
}

/* Whether the ports are in use between the pod and this backend, by a flow that was meant for somebody else:
 * replies could not be told apart. SPARE: by datagrams that the backend sent of its own accord. */
enum taken { FREE, SPARE, TAKEN };

__attribute__((noinline)) int is_taken(struct context *c)
{
	struct ct_value *flow;
	__u32 initiator;
	int forward;

	c = own_context(c);
	if (!c)
		return TAKEN;
	if (c->source.ifindex && equal_words(c->translation.address, c->source.self.w) && !may_turn(c))
		return TAKEN;
	c->translation.side = c->meant_side;
	c->translation.self_port = 0;
	if (c->outside) {
		forward = speaks_for(c);
		if (forward)
			return forward > 0 && take_self_port(c, flow_hash(&c->packet)) ? FREE : TAKEN;
	}
	initiator = make_flow_key(&c->meant, &c->translation, &c->key);
	flow = bpf_map_lookup_elem(&ct_map, &c->key);
	if (!flow || is_stale(flow, &c->key, c->now) || flow->tcp == TCP_CLOSING ||
	    (flow->flags & ENTRY_TOMBSTONE) || is_meant(flow, initiator, &c->meant, c->meant_side))
		return FREE;
	if (c->meant.protocol == IPPROTO_UDP && flow->initiator != initiator &&
	    !(flow->flags & (ENTRY_SERVICE | ENTRY_HOST)))
		return SPARE;
	return TAKEN;
}

/* The Service's port that the packet is for, and its client. */
static __always_inline void make_affinity_key(struct context *c)
{
	struct affinity_key *key = &c->affinity_key;

	__builtin_memset(key, 0, sizeof(*key));
	key->service.address = c->packet.destination;
	key->service.port = c->packet.destination_port;
	key->service.protocol = c->packet.protocol;
	key->service.scope = c->outside;
	__builtin_memcpy(key->client, c->packet.source.w, sizeof(key->client));
}

/* Copies what is known of the packet's client to c->affinity. Returns 0 where that is nothing, or too long
 * ago. */
__attribute__((noinline)) int recall_backend(struct context *c, __u32 seconds)
{
	c = own_context(c);
	if (!c)
		return 0;
	return read_affinity(&c->affinity_key, c->now, seconds, &c->affinity);
}

/* The sum of SCTP is over the ports, and not one that can be changed. */
static __always_inline int can_go_there(const struct context *c)
{
	return c->packet.protocol != IPPROTO_SCTP || c->packet.destination_port == c->translation.port;
}

/* The client goes to the backend in c->translation from now on, which this hash chose; not to one that it
 * can't go to. */
__attribute__((noinline)) int keep_backend(struct context *c, __u32 hash)
{
	c = own_context(c);
	if (!c)
		return REASON_TABLE_ERROR;
	if (!can_go_there(c))
		return REASON_NO_BACKEND;
	write_affinity(&c->affinity_key, &c->affinity, c->now, hash, c->translation.slot,
		       c->translation.generation);
	return REASON_NONE;
}

/* A backend for a flow that begins, in c->translation: that of the client's flow before, where the Service
 * keeps its clients; else of the place that a hash says, or one behind it. Where all are taken, it is one
 * whose backend spoke first: what it says from then on is an answer. Returns a reason, or -1 where it is to
 * no Service. */
__attribute__((noinline)) int choose_backend(struct context *c)
{
	__u32 hash, place, size, spare = ~0u;
	struct service *service;
	int torn, taken;

	c = own_context(c);
	if (!c)
		return REASON_TABLE_ERROR;
	make_affinity_key(c);
	service = find_service(&c->affinity_key.service, c->changes, &torn);
	if (!service)
		return torn ? REASON_TABLE_ERROR : -1;
	size = service->count;
	if (!size || !may_ask(c, service))
		return REASON_NO_BACKEND;
	hash = flow_hash(&c->packet);
	if (service->affinity && recall_backend(c, service->affinity)) {
		hash = c->affinity.hash;
		if (is_serving(c->affinity.slot, c->affinity.generation) &&
		    take_backend(c, c->affinity.slot) && is_taken(c) == FREE)
			return keep_backend(c, hash);
	}
	place = ((__u64)hash * size) >> 32;
	for (int i = 0; i < PLACES_TRIED; i++) {
		if (!take_place_of(c, service, place))
			return REASON_TABLE_ERROR;
		taken = is_taken(c);
		if (taken == FREE)
			return service->affinity ? keep_backend(c, hash) : REASON_NONE;
		if (taken == SPARE && spare == ~0u)
			spare = place;
		place = place + 1 == size ? 0 : place + 1;
	}
	if (spare == ~0u || !take_place_of(c, service, spare))
		return REASON_NO_BACKEND;
	return service->affinity ? keep_backend(c, hash) : REASON_NONE;
}

/* In the packet itself: from the Service that was meant to the backend in c->translation. Returns 0 where all
 * of it was done. */
static __always_inline long rewrite_destination(struct __sk_buff *skb, struct context *c)
{
	struct packet *p = &c->packet;
	struct end_change end = {
	    .from = c->meant_address.w,
	    .to = c->translation.address,
	    .from_port = p->destination_port,
	    .to_port = c->translation.port,
	    .address_at = p->network + (p->source.family == 4 ? 16 : 24),
	    .port_at = p->transport + 2,
	};

	return change_end(skb, p, &end, sum_offset(p), BPF_F_PSEUDO_HDR);
}

/* To the backend in c->translation, where a packet to that itself might go. Returns a reason. */
static __always_inline int change_destination(struct __sk_buff *skb, struct context *c)
{
	struct packet *p = &c->packet;
	int reason;

	if (!can_go_there(c))
		return REASON_NO_BACKEND;
	__builtin_memcpy(p->destination.w, c->translation.address, sizeof(p->destination.w));
	reason = check_destination(&p->destination);
	if (!reason)
		reason = find_endpoint(c, &p->destination, &c->destination);
	if (reason)
		return reason;
	if (c->source.ifindex && c->source.ifindex == c->destination.ifindex) {
		/* By another address than it speaks from, its answer would not come by here. */
		if (!equal_words(p->destination.w, p->source.w) || !may_turn(c)) {
			p->destination = c->meant_address;
			return REASON_NO_BACKEND;
		}
		begin_hairpin(c, HAIRPIN_FORTH, p->source_port);
	}
	if (c->translation.self_port) {
		/* He was elsewhere when it was chosen. */
		if (!c->outside || c->destination.ifindex)
			return REASON_NO_BACKEND;
		c->forward = 1;
	}
	if (rewrite_destination(skb, c) || (c->hairpin && put_alias(skb, c)) ||
	    (c->forward && change_asker(skb, c)))
		return REASON_MALFORMED;
	p->destination_port = c->translation.port;
	make_key(c, p);
	return REASON_NONE;
}

/* A connection from outside stays with its pod while that is here, whatever says that it begins anew: nobody
 * vouches for who sent that, and the pod itself does not believe it. */
__attribute__((noinline)) int stays_outside(struct context *c)
{
	struct addr backend = {};
	struct ct_value *flow;
	__u32 initiator;

	c = own_context(c);
	if (!c || c->outside != SCOPE_OUTSIDE || c->packet.protocol != IPPROTO_TCP)
		return 0;
	initiator = make_flow_key(&c->meant, &c->translation, &c->key);
	flow = bpf_map_lookup_elem(&ct_map, &c->key);
	if (!flow || is_stale(flow, &c->key, c->now) || flow->tcp != TCP_OPEN ||
	    (flow->flags & ENTRY_TOMBSTONE) || !is_meant(flow, initiator, &c->meant, c->meant_side))
		return 0;
	if (c->translation.self_port)
		return 1;
	backend.family = c->packet.source.family;
	__builtin_memcpy(backend.w, c->translation.address, sizeof(backend.w));
	return !find_endpoint(c, &backend, &c->destination) && c->destination.ifindex;
}

/* The flow of the translation in c->translation has expired, and was not swept yet. One that is not found may
 * be about to be replaced. */
static __always_inline int is_over(struct context *c)
{
	struct ct_value *flow;

	make_flow_key(&c->meant, &c->translation, &c->key);
	flow = bpf_map_lookup_elem(&ct_map, &c->key);
	return flow && is_stale(flow, &c->key, c->now);
}

/*
 * A packet to a Service becomes one to a backend, in every respect. The translation of its flow is followed;
 * what may open a flow is sent to somebody else where that backend serves no more. Returns a reason.
 */
__attribute__((noinline)) int translate(struct __sk_buff *skb, struct context *c)
{
	struct packet *p;
	int found, opens, reason;

	c = own_context(c);
	if (!c)
		return REASON_TABLE_ERROR;
	p = &c->packet;
	if ((p->protocol != IPPROTO_TCP && p->protocol != IPPROTO_UDP && p->protocol != IPPROTO_SCTP) ||
	    (p->flags & PACKET_PORTS_UNKNOWN))
		return REASON_NONE;
	if (!c->has_key)
		make_key(c, p);
	c->meant = c->key;
	c->meant_tag = c->key_tag;
	c->meant_side = c->side;
	c->meant_address = p->destination;
	c->meant_port = p->destination_port;
	opens = p->protocol != IPPROTO_TCP || is_syn(p);
	found = find_translation(c);
	if (found < 0)
		return REASON_TABLE_ERROR;
	if (found && is_over(c))
		found = 0;
	if (!found && !opens) {
		c->key = c->meant;
		return REASON_NONE;
	}
	if (!found ||
	    (opens && !is_serving(c->translation.slot, c->translation.generation) && !stays_outside(c))) {
		reason = choose_backend(c);
		if (reason) {
			/* As it was sent. */
			c->key = c->meant;
			return reason < 0 ? REASON_NONE : reason;
		}
		c->chosen = 1;
	}
	c->service = 1;
	return change_destination(skb, c);
}

/* What a backend answers becomes the Service's. Returns 0 where all of it did. */
__attribute__((noinline)) int translate_back(struct __sk_buff *skb, struct context *c)
{
	struct end_change end = {};
	struct packet *p;

	c = own_context(c);
	if (!c)
		return -1;
	p = &c->packet;
	end.from = p->source.w;
	end.to = c->meant_address.w;
	end.from_port = p->source_port;
	end.to_port = c->meant_port;
	end.address_at = p->network + (p->source.family == 4 ? 12 : 8);
	end.port_at = p->transport;
	if (change_end(skb, p, &end, sum_offset(p), BPF_F_PSEUDO_HDR))
		return -1;
	return c->alias.family ? lift_alias(skb, c) : 0;
}

#endif

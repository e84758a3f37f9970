/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The short way of an ordinary packet of an open flow: one look-up of its entry, which names the records of
 * both ends. It only ever lets packets through. Whatever is not plainly so, for this packet and for its flow,
 * goes the long way (moat.bpf.c), which asks everything anew; so that each condition here stands for a
 * refusal or a doubt there. */
#ifndef MOAT_HIT_H
#define MOAT_HIT_H

#include "deliver.h"
#include "progress.h"
#include "service.h"

#define NOT_FOLLOWED (-2)
#define SPOILED (-3)    /* rewritten in part: nobody may have it */
#define TO_SERVICE (-4) /* not followed as it is: a pod sends it to what may be a Service */

static __always_inline __u32 tag_of(__u8 family, const __u32 *words)
{
	struct addr address = {.w = {words[0], words[1], words[2], words[3]}, .family = family};

	return addr_tag(&address);
}

static __always_inline __u32 bucket_of(__u8 family, const __u32 *words)
{
	return tag_of(family, words) & 0xffff;
}

/* What the entry says of one leg, and the record of the endpoint that it was judged for. */
struct end {
	const struct endpoint *record; /* 0 = the address was not local */
	int follows;
};

/*
 * The leg stands, and its endpoint is there and ready: its address still leads to this record (`live`), for
 * the same owner, and no policy came since that the leg was not judged by. Were its address not local then,
 * and local now, the peer epoch would tell.
 */
static __always_inline struct end follow_leg(const struct ct_value *entry, __u32 leg, __u32 peer_bucket)
{
	const volatile struct ct_leg *judged = &entry->leg[leg];
	__u32 slot = *(volatile __u32 *)&entry->slot[leg], generation = judged->generation, set;
	struct end end = {.record = 0, .follows = 1};
	__u64 epoch = judged->epoch, *changed;

	if (!generation)
		return end;
	end.follows = 0;
	end.record = bpf_map_lookup_elem(&endpoint_slots, &slot);
	if (!end.record)
		return end;
	if (*(volatile __u64 *)&end.record->live != ((__u64)slot << 32 | generation) ||
	    !(end.record->flags & ENDPOINT_READY) || epoch < end.record->epoch)
		return end;
	set = leg == LEG_EGRESS ? end.record->egress_set : end.record->ingress_set;
	changed = bpf_map_lookup_elem(&set_epoch, &set);
	if (!changed || epoch < *(volatile __u64 *)changed)
		return end;
	changed = bpf_map_lookup_elem(&peer_epoch, &peer_bucket);
	end.follows = changed && epoch >= *(volatile __u64 *)changed;
	return end;
}

/* As check_ends(): a pod's own packet, or one for it that did not come by somebody else's interface. By an
 * uplink, from nobody who is here. */
static __always_inline int comes_rightly(struct __sk_buff *skb, __u32 hook, __u32 family,
					 const struct endpoint *source, const struct endpoint *destination)
{
	const __u8 *eth = packet_data(skb);

	if (hook == HOOK_FROM_NODE)
		return destination && !source && is_uplink(skb->ifindex, family);
	if (hook == HOOK_FROM_POD)
		return source && source->ifindex == skb->ifindex &&
		       (void *)(eth + ETH_HLEN) <= packet_end(skb) && mac_equal(eth + 6, source->pod_mac);
	/* What the node made itself takes the long way. */
	return destination && destination->ifindex == skb->ifindex && skb->ingress_ifindex &&
	       (!source || came_from(skb, source));
}

static __always_inline int hand_over(struct __sk_buff *skb, const struct glance *g, const struct endpoint *to)
{
	__u8 *eth = packet_data(skb);

	if ((void *)(eth + ETH_HLEN + 12) > packet_end(skb))
		return TCX_NEXT;
	__builtin_memcpy(eth, to->pod_mac, 6);
	__builtin_memcpy(eth + 6, to->host_mac, 6);
	lower_ttl(eth + ETH_HLEN, g->key.family);
	/* The mark would reach the pod. */
	skb->mark = 0;
	return bpf_redirect_peer(to->ifindex, 0);
}

/* As find_route() and leave_node(). A function of its own, for room on the stack. */
__attribute__((noinline)) int send_off(struct __sk_buff *skb, __u32 family, __u32 length)
{
	__u8 *ip = (__u8 *)packet_data(skb) + ETH_HLEN;
	struct counters *counters = node_counters();
	struct bpf_fib_lookup route;
	struct bpf_redir_neigh hop = {};
	const __u16 *ports;
	__u32 uplink;

	if (length > 0xffff || (void *)(ip + 24) > packet_end(skb))
		return TCX_NEXT;
	if (family == 4) {
		ask_route(&route, 4, (__u32 *)(ip + 12), (__u32 *)(ip + 16));
		route.l4_protocol = ip[9];
		ports = (__u16 *)(ip + 20);
	} else {
		if ((void *)(ip + 44) > packet_end(skb))
			return TCX_NEXT;
		ask_route(&route, 6, (__u32 *)(ip + 8), (__u32 *)(ip + 24));
		route.l4_protocol = ip[6];
		ports = (__u16 *)(ip + 40);
	}
	route.sport = ports[0];
	route.dport = ports[1];
	route.tot_len = length;
	route.ifindex = skb->ifindex;
	uplink = take_route(skb, &route, family, &hop);
	if (!uplink)
		return TCX_NEXT;
	if (counters)
		counters->routed++;
	lower_ttl(ip, family);
	return bpf_redirect_neigh(uplink, &hop, sizeof(hop), 0);
}

/* What is needed where ends are rewritten, and nothing of the packet before. Returns 0 where it is there. */
static __always_inline int take_ends(struct __sk_buff *skb, struct context *c, __u32 hook)
{
	c->now = bpf_ktime_get_coarse_ns();
	c->hook = hook == HOOK_FROM_POD ? HOOK_FROM_POD : HOOK_TO_POD;
	c->ifindex = skb->ifindex;
	c->alias.family = 0;
	clear_packet(&c->packet, ETH_HLEN);
	return take_glance(skb, c);
}

/* The packet of a backend enters its client's pod, as the Service's that c->meant_address and its port say.
 */
__attribute__((noinline)) int answer(struct __sk_buff *skb, struct context *c)
{
	c = own_context(c);
	if (!c)
		return -1;
	return take_ends(skb, c, c->hook) || translate_back(skb, c);
}

/* The packet becomes the one to the backend of c->translation. Returns 0 where all of it did. */
__attribute__((noinline)) int send_on(struct __sk_buff *skb, struct context *c)
{
	__u32 side;

	c = own_context(c);
	if (!c || take_ends(skb, c, HOOK_FROM_POD))
		return -1;
	side = c->meant_side & 1;
	__builtin_memcpy(c->meant_address.w, side ? c->meant.address[0] : c->meant.address[1],
			 sizeof(c->meant_address.w));
	c->packet.destination_port = side ? c->meant.port[0] : c->meant.port[1];
	return rewrite_destination(skb, c) ? -1 : 0;
}

/* How the packet of an open flow goes on: past the stack, where its flow does, or by it. */
static __always_inline int move_on(struct __sk_buff *skb, const struct glance *g, __u32 hook,
				   const struct end *source, const struct end *destination, __u32 direct,
				   struct context *answers)
{
	struct counters *counters = node_counters();
	__u32 length = glance_length(skb, g);

	if (counters)
		counters->passed[hook == HOOK_FROM_POD ? HOOK_FROM_POD : HOOK_TO_POD]++;
	if (hook == HOOK_FROM_NODE) {
		if (counters)
			counters->delivered++;
		if (answers && answer(skb, answers))
			return SPOILED;
		mend_sum(skb, g->key.family);
		return hand_over(skb, g, destination->record);
	}
	if (hook == HOOK_TO_POD && answers && answer(skb, answers))
		return SPOILED;
	if (hook == HOOK_TO_POD || !direct || g->ttl <= 1 || !(source->record->flags & ENDPOINT_REDIRECT))
		return TCX_NEXT;
	if (!destination->record)
		return send_off(skb, g->key.family, length);
	if (!may_enter(destination->record, length))
		return TCX_NEXT;
	if (answers && answer(skb, answers))
		return SPOILED;
	if (counters)
		counters->redirected++;
	return hand_over(skb, g, destination->record);
}

/* A datagram flow is about to be assured: the long way sees to that. */
static __always_inline int is_to_be_assured(struct __sk_buff *skb, const struct ct_value *entry, __u32 hook,
					    __u64 now)
{
	return !(entry->flags & ENTRY_ASSURED) && hook == HOOK_FROM_POD && entry->holder == skb->ifindex &&
	       is_lasting(entry, now);
}

/* The connection's element moves on by a segment that is more than data: SYN-ACK, FIN, RST, and what answers
 * them. Returns 0 where the long way must see it. */
static __always_inline int step_on(struct __sk_buff *skb, struct context *c, struct ct_value *entry,
				   const struct step *step)
{
	__u32 how = (step->end ? STEP_RESPONDER : 0) | (step->believed ? STEP_BELIEVED : 0) |
		    (step->outbound ? STEP_OUTBOUND : 0);

	clear_packet(&c->packet, ETH_HLEN);
	if (take_glance(skb, c))
		return 0;
	return !step_tcp(c, entry, how);
}

/* What a packet is to Services, known when this is compiled: nothing; one that was sent to one, and what was
 * looked up is what it becomes, by c->translation; or one of a flow that was, perhaps an answer. */
enum service_part { PART_NONE, PART_SENT, PART_SERVED };

/* What a pod sends to an address that is, or was, a Service's goes where its translation says, whatever flow
 * stands between these very ends: a segment, where there is one. `tag`: of the address. */
static __always_inline int goes_to_service(const struct state *state, const struct ct_key *key, __u32 tag)
{
	if (!*(volatile __u64 *)&state->marked || !is_marked(tag))
		return 0;
	return key->protocol != IPPROTO_TCP || bpf_map_lookup_elem(&translation_map, key);
}

/* The verdict of a packet whose flow's entry was found, or NOT_FOLLOWED, SPOILED, TO_SERVICE. */
static __always_inline int follow_entry(struct __sk_buff *skb, struct context *c, __u32 hook,
					struct ct_value *entry, enum service_part part)
{
	const struct glance *g = &c->glance;
	struct state *state = node_state();
	struct end source, destination;
	__u64 head, now;
	__u32 place, from, to, direct, answers, tcp = g->key.protocol == IPPROTO_TCP;
	struct step step = {.segment = &g->segment, .flags = g->tcp_flags};

	if (!state)
		return NOT_FOLLOWED;
	now = bpf_ktime_get_coarse_ns() + state->skew;
	head = *(volatile __u64 *)&entry->head;
	if ((__u32)head != ct_tag(&g->key) || (entry->flags & (ENTRY_TOMBSTONE | ENTRY_HOST)))
		return NOT_FOLLOWED;
	/* By the stack to a pod, or by the wire for the stack: the long way knows what that means. */
	direct = entry->flags & ENTRY_DIRECT;
	if ((hook == HOOK_TO_POD && direct) || (hook == HOOK_FROM_NODE && !direct))
		return NOT_FOLLOWED;
	if (is_stale(entry, &g->key, now) || (!tcp && is_to_be_assured(skb, entry, hook, now)))
		return NOT_FOLLOWED;
	place = g->side != entry->initiator;
	/* Of a connection that was never answered there is no more than its SYN (uplink.h). */
	if (tcp && !place && entry->tcp != TCP_SYN_ACKED && entry->tcp != TCP_OPEN)
		return NOT_FOLLOWED;
	from = bucket_of(g->key.family, g->key.address[g->side & 1]);
	to = tag_of(g->key.family, g->key.address[!(g->side & 1)]);
	source = follow_leg(entry, place ? LEG_INGRESS : LEG_EGRESS, to & 0xffff);
	destination = follow_leg(entry, place ? LEG_EGRESS : LEG_INGRESS, from);
	if (!source.follows || !destination.follows ||
	    !comes_rightly(skb, hook, g->key.family, source.record, destination.record))
		return NOT_FOLLOWED;
	if (part != PART_SENT && hook == HOOK_FROM_POD && !destination.record &&
	    goes_to_service(state, &g->key, to))
		return TO_SERVICE;
	if (hook == HOOK_FROM_NODE && (g->ttl <= 1 || !may_enter(destination.record, glance_length(skb, g))))
		return NOT_FOLLOWED;
	answers = part == PART_SERVED && place && (entry->flags & ENTRY_SERVICE);
	if (answers) {
		note_original(c, entry);
		c->hook = hook == HOOK_FROM_POD ? HOOK_FROM_POD : HOOK_TO_POD;
	}
	/* The answer leaves the node as the Service's (deliver.h). */
	if (answers && hook == HOOK_FROM_POD && !destination.record)
		return NOT_FOLLOWED;
	if (part == PART_SENT && !is_meant(entry, g->side, &c->meant, c->meant_side))
		return NOT_FOLLOWED;
	/* All that was read is one entry's, of this flow: nobody took it for another one meanwhile. */
	asm volatile("" ::: "memory");
	if (*(volatile __u64 *)&entry->tail != head || *(volatile __u64 *)&entry->head != head ||
	    *(volatile __u64 *)&state->closed)
		return NOT_FOLLOWED;
	if (tcp) {
		step.end = place;
		step.believed = source.record != 0;
		step.outbound = !destination.record;
		if (!(g->tcp_flags & (TCP_FIN | TCP_SYN | TCP_RST)) && entry->tcp == TCP_OPEN &&
		    !confirms_fin(entry, &step)) {
			follow_numbers(entry, &step);
		} else if (part != PART_NONE) {
			/* There is no room on the stack for more. */
			return NOT_FOLLOWED;
		} else {
			c->now = now;
			c->hook = hook == HOOK_FROM_POD ? HOOK_FROM_POD : HOOK_TO_POD;
			c->ifindex =
			    hook == HOOK_FROM_POD ? source.record->ifindex : destination.record->ifindex;
			if (!step_on(skb, c, entry, &step))
				return NOT_FOLLOWED;
		}
	}
	entry->last_seen = now;
	if (hook == HOOK_FROM_POD || !source.record) {
		entry->packets[place]++;
		entry->bytes[place] += skb->len;
	}
	if (part == PART_SENT && send_on(skb, c))
		return SPOILED;
	return move_on(skb, g, hook, &source, &destination, direct, answers ? c : 0);
}

/* Where this key's packet may be to a Service: not at an address that is, or may be, a local endpoint's. */
static __always_inline int may_mean_service(const struct ct_key *key, __u32 side)
{
	const __u32 *words = side ? key->address[0] : key->address[1];
	struct addr address = {.w = {words[0], words[1], words[2], words[3]}, .family = key->family};

	return has_marks() && is_marked(addr_tag(&address)) && !bpf_map_lookup_elem(&endpoint_map, &address);
}

/* A packet to a Service, by its translation. As follow(). */
__attribute__((noinline)) int follow_service(struct __sk_buff *skb, struct context *c)
{
	struct ct_value *entry;
	struct glance *g;
	int verdict;
	__u32 side;

	c = own_context(c);
	if (!c)
		return NOT_FOLLOWED;
	g = &c->glance;
	side = g->side & 1;
	if (!may_mean_service(&g->key, side))
		return NOT_FOLLOWED;
	c->meant = g->key;
	c->meant_tag = ct_tag(&c->meant);
	c->meant_side = side;
	if (find_translation(c) <= 0 ||
	    equal_words(c->translation.address, side ? g->key.address[1] : g->key.address[0]) ||
	    (g->key.protocol != IPPROTO_TCP && !is_serving(c->translation.slot, c->translation.generation)))
		return NOT_FOLLOWED;
	g->side = make_flow_key(&c->meant, &c->translation, &g->key);
	entry = bpf_map_lookup_elem(&ct_map, &g->key);
	verdict = entry ? follow_entry(skb, c, HOOK_FROM_POD, entry, PART_SENT) : NOT_FOLLOWED;
	if (verdict == NOT_FOLLOWED) {
		g->key = c->meant;
		g->side = side;
	}
	return verdict;
}

/* A packet of a flow that was sent to a Service, as its backend sees it. As follow(), of which it is no part,
 * so that other flows' packets are as fast as without Services. */
__attribute__((noinline)) int follow_served(struct __sk_buff *skb, struct context *c, __u32 hook)
{
	struct ct_value *entry;

	c = own_context(c);
	if (!c)
		return NOT_FOLLOWED;
	entry = bpf_map_lookup_elem(&ct_map, &c->glance.key);
	/* What a pod sends to itself is not what a Service sent there. */
	if (!entry || equal_words(c->glance.key.address[0], c->glance.key.address[1]))
		return NOT_FOLLOWED;
	if (hook == HOOK_FROM_POD)
		return follow_entry(skb, c, HOOK_FROM_POD, entry, PART_SERVED);
	if (hook == HOOK_TO_POD)
		return follow_entry(skb, c, HOOK_TO_POD, entry, PART_SERVED);
	return follow_entry(skb, c, HOOK_FROM_NODE, entry, PART_SERVED);
}

/* The packet's verdict, or NOT_FOLLOWED, or SPOILED. */
static __always_inline int follow(struct __sk_buff *skb, struct context *c, __u32 hook)
{
	const struct glance *g = &c->glance;
	struct ct_value *entry;
	int verdict;

	/* A SYN may open. */
	if ((g->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
		return NOT_FOLLOWED;
	entry = bpf_map_lookup_elem(&ct_map, &g->key);
	if (!entry)
		verdict = hook == HOOK_FROM_POD ? TO_SERVICE : NOT_FOLLOWED;
	else if (entry->flags & ENTRY_SERVICE)
		verdict = follow_served(skb, c, hook);
	else
		verdict = follow_entry(skb, c, hook, entry, PART_NONE);
	return verdict == TO_SERVICE ? follow_service(skb, c) : verdict;
}

#endif

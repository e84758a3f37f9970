/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The short way of an ordinary packet of an open flow: one look-up of its entry, which names the records of
 * both ends. It only ever lets packets through. Whatever is not plainly so, for this packet and for its flow,
 * goes the long way (moat.bpf.c), which asks everything anew; so that each condition here stands for a
 * refusal or a doubt there. */
#ifndef MOAT_HIT_H
#define MOAT_HIT_H

#include "deliver.h"
#include "related.h"

#define NOT_FOLLOWED (-2)

/* An ordinary packet: whole, TCP that neither opens nor ends, or UDP. */
struct glance {
	struct ct_key key;
	__u32 side; /* of the source in the key */
	__u32 ttl;
	__u32 bucket[2]; /* of the peer epochs: the source's, the destination's */
	struct segment segment;
	__u32 acks;
};

static __always_inline void *packet_data(struct __sk_buff *skb)
{
	return (void *)(long)skb->data;
}

static __always_inline void *packet_end(struct __sk_buff *skb)
{
	return (void *)(long)skb->data_end;
}

/* Ports of the transport header at `at`, `room` bytes before the packet's end. Returns 0 where it is not
 * ordinary. */
static __always_inline int glance_ports(struct glance *g, const __u8 *at, const void *end, __u32 room)
{
	__u16 length;

	if ((void *)(at + 8) > end || room < 8)
		return 0;
	g->key.port[0] = be16(at);
	g->key.port[1] = be16(at + 2);
	if (g->key.protocol == IPPROTO_UDP) {
		length = be16(at + 4);
		return length == 0 || length >= 8;
	}
	if (g->key.protocol != IPPROTO_TCP || room < 20 || (void *)(at + 20) > end)
		return 0;
	if (at[13] & (TCP_FIN | TCP_SYN | TCP_RST))
		return 0;
	if ((at[12] >> 4) < 5 || (at[12] >> 4) * 4 > room)
		return 0;
	g->segment.sequence = be32(at + 4);
	g->segment.acknowledged = be32(at + 8);
	g->segment.end = g->segment.sequence + room - (at[12] >> 4) * 4;
	g->acks = at[13] & TCP_ACK;
	return 1;
}

static __always_inline int glance_v4(struct glance *g, const __u8 *ip, const void *end, __u32 room)
{
	__u32 length;

	if ((void *)(ip + 20) > end || ip[0] != 0x45 || (be16(ip + 6) & 0x3fff))
		return 0;
	length = be16(ip + 2);
	if (length < 20 || length > room || ip[16] >= 224)
		return 0;
	g->ttl = ip[8];
	g->key.family = 4;
	g->key.protocol = ip[9];
	g->key.address[0][0] = wire32(ip + 12);
	g->key.address[1][0] = wire32(ip + 16);
	return glance_ports(g, ip + 20, end, length - 20);
}

static __always_inline int glance_v6(struct glance *g, const __u8 *ip, const void *end, __u32 room)
{
	__u32 length;

	if ((void *)(ip + 40) > end || ip[0] >> 4 != 6)
		return 0;
	length = be16(ip + 4);
	if (length == 0 || length + 40 > room || ip[24] == 0xff)
		return 0;
	g->ttl = ip[7];
	g->key.family = 6;
	g->key.protocol = ip[6];
#pragma unroll
	for (int i = 0; i < 4; i++) {
		g->key.address[0][i] = wire32(ip + 8 + 4 * i);
		g->key.address[1][i] = wire32(ip + 24 + 4 * i);
	}
	return glance_ports(g, ip + 40, end, length);
}

static __always_inline __u32 bucket_of(__u8 family, const __u32 *words)
{
	struct addr address = {.w = {words[0], words[1], words[2], words[3]}, .family = family};

	return addr_tag(&address) & 0xffff;
}

/* Turns the key so that the lower end comes first. */
static __always_inline void order_key(struct glance *g)
{
	__u16 port = g->key.port[0];

	g->side = 0;
#pragma unroll
	for (int i = 0; i < 4; i++)
		if (!g->side && g->key.address[0][i] != g->key.address[1][i])
			g->side = g->key.address[0][i] > g->key.address[1][i] ? 1 : 2;
	if (!g->side)
		g->side = g->key.port[0] > g->key.port[1];
	g->side &= 1;
	if (!g->side)
		return;
	g->key.port[0] = g->key.port[1];
	g->key.port[1] = port;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		__u32 word = g->key.address[0][i];

		g->key.address[0][i] = g->key.address[1][i];
		g->key.address[1][i] = word;
	}
}

/* Returns 0 where the frame is not an ordinary packet. */
static __always_inline int glance(struct __sk_buff *skb, struct glance *g, __u32 hook)
{
	const __u8 *eth = packet_data(skb), *end = packet_end(skb);
	__u32 room = skb->len - ETH_HLEN;
	__u16 type;
	int ordinary = 0;

	if (eth + ETH_HLEN > end || skb->vlan_present || (hook == HOOK_FROM_POD && (eth[0] & 1)))
		return 0;
	type = be16(eth + 12);
	if (type == ETH_P_IP)
		ordinary = glance_v4(g, eth + ETH_HLEN, end, room);
	else if (type == ETH_P_IPV6)
		ordinary = glance_v6(g, eth + ETH_HLEN, end, room);
	if (!ordinary)
		return 0;
	g->bucket[0] = bucket_of(g->key.family, g->key.address[0]);
	g->bucket[1] = bucket_of(g->key.family, g->key.address[1]);
	order_key(g);
	return 1;
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

/* As check_ends(): a pod's own packet, or one for it that did not come by somebody else's interface. */
static __always_inline int comes_rightly(struct __sk_buff *skb, __u32 hook, const struct endpoint *source,
					 const struct endpoint *destination)
{
	const __u8 *eth = packet_data(skb);

	if (hook == HOOK_FROM_POD)
		return source && source->ifindex == skb->ifindex &&
		       (void *)(eth + ETH_HLEN) <= packet_end(skb) && mac_equal(eth + 6, source->pod_mac);
	/* What the node made itself takes the long way. */
	return destination && destination->ifindex == skb->ifindex && skb->ingress_ifindex &&
	       (!source || source->ifindex == skb->ingress_ifindex);
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

static __always_inline struct ct_value *find_open(const struct ct_key *key)
{
	if (key->protocol == IPPROTO_TCP)
		return bpf_map_lookup_elem(&ct_tcp, key);
	return bpf_map_lookup_elem(&ct_lru, key);
}

/* The packet's verdict, or NOT_FOLLOWED. */
static __always_inline int follow(struct __sk_buff *skb, __u32 hook)
{
	struct state *state = node_state();
	struct counters *counters;
	struct glance g = {};
	struct end source, destination;
	struct ct_value *entry;
	__u64 head, now;
	__u32 leg, place;
	struct step step = {.segment = &g.segment};

	if (!state || !glance(skb, &g, hook))
		return NOT_FOLLOWED;
	entry = find_open(&g.key);
	if (!entry)
		return NOT_FOLLOWED;
	head = *(volatile __u64 *)&entry->head;
	if ((__u32)head != ct_tag(&g.key))
		return NOT_FOLLOWED;
	if ((entry->flags & (ENTRY_TOMBSTONE | ENTRY_HOST)) ||
	    (g.key.protocol == IPPROTO_TCP && entry->tcp != TCP_OPEN))
		return NOT_FOLLOWED;
	now = bpf_ktime_get_coarse_ns() + state->skew;
	if (is_stale(entry, g.key.protocol, now))
		return NOT_FOLLOWED;
	place = g.side != entry->initiator;
	leg = place ? LEG_INGRESS : LEG_EGRESS;
	if (leg == LEG_EGRESS) {
		source = follow_leg(entry, LEG_EGRESS, g.bucket[1]);
		destination = follow_leg(entry, LEG_INGRESS, g.bucket[0]);
	} else {
		source = follow_leg(entry, LEG_INGRESS, g.bucket[1]);
		destination = follow_leg(entry, LEG_EGRESS, g.bucket[0]);
	}
	if (!source.follows || !destination.follows ||
	    !comes_rightly(skb, hook, source.record, destination.record))
		return NOT_FOLLOWED;
	/* All that was read is one entry's, of this flow: nobody took it for another one meanwhile. */
	asm volatile("" ::: "memory");
	if (*(volatile __u64 *)&entry->tail != head || *(volatile __u64 *)&entry->head != head ||
	    *(volatile __u64 *)&state->closed)
		return NOT_FOLLOWED;
	if (g.key.protocol == IPPROTO_TCP) {
		step.flags = g.acks;
		step.end = place;
		step.believed = source.record != 0;
		step.outbound = !destination.record;
		/* The end of a connection is a change. */
		if (confirms_fin(entry, &step))
			return NOT_FOLLOWED;
		follow_numbers(entry, &step);
	}
	entry->last_seen = now;
	if (hook == HOOK_FROM_POD || !source.record) {
		entry->packets[place]++;
		entry->bytes[place] += skb->len;
	}
	counters = node_counters();
	if (counters)
		counters->passed[hook]++;
	if (hook != HOOK_FROM_POD || !destination.record ||
	    !may_redirect(skb, source.record, destination.record, g.ttl))
		return TCX_NEXT;
	if (counters)
		counters->redirected++;
	return hand_over(skb, &g, destination.record);
}

#endif

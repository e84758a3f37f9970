// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The kernel programs' cost for a packet, drawn at random each time: what bench/bpf.ts runs by
 * BPF_PROG_TEST_RUN. The frame of the run is a template: its peer and ports are drawn afresh by each program,
 * so that `bench_draw` is the cost of that alone, and everything else is what a program takes beyond it.
 * FLOWS says from how many. */
#include "../bpf/moat.bpf.c"

#define PORTS 1024

/* What is counted in: one look-up of a 40-byte key. */
MAP(BPF_MAP_TYPE_HASH, unit_map, struct ct_key, __u64, 131072, 0);

/* Whether flows are drawn, or named one after the other to be set up. */
__u32 next_flow;

enum drawn { DRAW_SOURCE_PORT = 1, IN_ORDER = 2, REPLY = 4 };

/* Writes the peer and the ports of a flow into the template. Returns the flow's number, or -1. */
static __always_inline int draw(struct __sk_buff *skb, __u32 how)
{
	__u8 *frame = (__u8 *)(long)skb->data;
	__u32 random = bpf_get_prandom_u32();
	__u32 flow = ((__u64)random * FLOWS) >> 32;
	__u32 peer = how & REPLY ? 12 : 16, port = how & REPLY ? 2 : 0;

	if ((void *)(frame + ETH_HLEN + 40) > (void *)(long)skb->data_end)
		return -1;
	if (how & IN_ORDER)
		flow = next_flow++ % FLOWS;
	/* 100.64.0.0 and on. */
	*(__u32 *)(frame + ETH_HLEN + peer) = bpf_htonl(0x64400000u + flow);
	*(__u16 *)(frame + ETH_HLEN + 20 + port) =
	    bpf_htons(how & DRAW_SOURCE_PORT ? bpf_get_prandom_u32() : PORTS + flow % PORTS);
	return flow;
}

/* 10.96.0.1, served by the first peer alone at port 85: its flows differ by the pod's port. */
#define SERVICE 0x0a600001u

/* Writes a packet to the Service, or one of its backend. Returns the flow's number, or -1. */
static __always_inline int draw_service(struct __sk_buff *skb, __u32 how)
{
	__u8 *frame = (__u8 *)(long)skb->data;
	__u32 flow = (((__u64)bpf_get_prandom_u32() * FLOWS) >> 32) % PORTS;
	__u32 peer = how & REPLY ? 12 : 16, port = how & REPLY ? 2 : 0;

	if ((void *)(frame + ETH_HLEN + 40) > (void *)(long)skb->data_end)
		return -1;
	if (how & IN_ORDER)
		flow = next_flow++ % FLOWS % PORTS;
	*(__u32 *)(frame + ETH_HLEN + peer) = bpf_htonl(how & REPLY ? 0x64400000u : SERVICE);
	*(__u16 *)(frame + ETH_HLEN + 20 + port) =
	    bpf_htons(how & DRAW_SOURCE_PORT ? bpf_get_prandom_u32() : PORTS + flow);
	*(__u16 *)(frame + ETH_HLEN + 22 - port) = bpf_htons(how & REPLY ? 85 : 80);
	return flow;
}

SEC("tc")
int bench_draw_service(struct __sk_buff *skb)
{
	return draw_service(skb, 0) < 0 ? TCX_DROP : TCX_NEXT;
}

SEC("tc")
int bench_fill_service(struct __sk_buff *skb)
{
	return draw_service(skb, IN_ORDER) < 0 ? TCX_DROP : run(skb, HOOK_FROM_POD);
}

SEC("tc")
int bench_fill_answer(struct __sk_buff *skb)
{
	return draw_service(skb, IN_ORDER | REPLY) < 0 ? TCX_DROP : run(skb, HOOK_TO_POD);
}

SEC("tc")
int bench_service(struct __sk_buff *skb)
{
	return draw_service(skb, 0) < 0 ? TCX_DROP : run(skb, HOOK_FROM_POD);
}

SEC("tc")
int bench_answer(struct __sk_buff *skb)
{
	return draw_service(skb, REPLY) < 0 ? TCX_DROP : run(skb, HOOK_TO_POD);
}

SEC("tc")
int bench_service_new(struct __sk_buff *skb)
{
	return draw_service(skb, DRAW_SOURCE_PORT) < 0 ? TCX_DROP : run(skb, HOOK_FROM_POD);
}

SEC("tc")
int bench_empty(struct __sk_buff *skb)
{
	(void)skb;
	return TCX_NEXT;
}

SEC("tc")
int bench_draw(struct __sk_buff *skb)
{
	return draw(skb, 0) < 0 ? TCX_DROP : TCX_NEXT;
}

SEC("tc")
int bench_draw_new(struct __sk_buff *skb)
{
	return draw(skb, DRAW_SOURCE_PORT) < 0 ? TCX_DROP : TCX_NEXT;
}

static __always_inline void unit_key(struct ct_key *key, __u32 flow)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->address[0][0] = flow;
	key->address[1][0] = ~flow;
}

SEC("tc")
int bench_unit(struct __sk_buff *skb)
{
	int flow = draw(skb, 0);
	struct ct_key key;
	__u64 *value;

	unit_key(&key, flow);
	value = bpf_map_lookup_elem(&unit_map, &key);
	return value && *(volatile __u64 *)value ? TCX_NEXT : TCX_DROP;
}

SEC("tc")
int bench_unit_fill(struct __sk_buff *skb)
{
	struct ct_key key;
	__u64 value = 1;

	unit_key(&key, draw(skb, IN_ORDER));
	return bpf_map_update_elem(&unit_map, &key, &value, BPF_ANY) ? TCX_DROP : TCX_NEXT;
}

/* One packet of each flow in turn: the template says which. */
SEC("tc")
int bench_fill_from(struct __sk_buff *skb)
{
	return draw(skb, IN_ORDER) < 0 ? TCX_DROP : run(skb, HOOK_FROM_POD);
}

SEC("tc")
int bench_fill_to(struct __sk_buff *skb)
{
	return draw(skb, IN_ORDER | REPLY) < 0 ? TCX_DROP : run(skb, HOOK_TO_POD);
}

SEC("tc")
int bench_established(struct __sk_buff *skb)
{
	return draw(skb, 0) < 0 ? TCX_DROP : run(skb, HOOK_FROM_POD);
}

/* As run(), judge_ip() and judge_packet() go for a new flow, without what stores and reports it. */
SEC("tc")
int bench_decision(struct __sk_buff *skb)
{
	struct context *c = the_context();

	if (!c || draw(skb, DRAW_SOURCE_PORT) < 0 || !glance(skb, &c->glance, HOOK_FROM_POD) ||
	    follow(skb, c, HOOK_FROM_POD) != NOT_FOLLOWED)
		return TCX_DROP;
	if (!start(skb, c, HOOK_FROM_POD) || take_glance(skb, c) || check_ends(skb, c) ||
	    !is_ready(&c->source) || may_be_service(c))
		return TCX_DROP;
	/* One in a thousand is open already. */
	if (find_entry(c))
		return TCX_NEXT;
	c->position = (__u32)c->packet.protocol << 16 | c->packet.destination_port;
	if (judge_flow(c, 1))
		return TCX_DROP;
	return is_closed() ? TCX_DROP : deliver(skb, c);
}

SEC("tc")
int bench_new(struct __sk_buff *skb)
{
	return draw(skb, DRAW_SOURCE_PORT) < 0 ? TCX_DROP : run(skb, HOOK_FROM_POD);
}

/* The flows of bench_floor: as many as the smaller table of flows has places. */
#define FLOOR_FLOWS 1024

MAP(BPF_MAP_TYPE_HASH, floor_map, struct ct_key, struct ct_value, 2 * FLOOR_FLOWS, 0);

struct floor {
	struct ct_key fresh;
	struct ct_key oldest;
	struct ct_value value;
	__u64 next;
};

MAP(BPF_MAP_TYPE_ARRAY, floor_state, __u32, struct floor, 1, 0);

/* What no program can do without that has one element for a flow, gives up the oldest one for a new one, and
 * tells of it: three look-ups, one of which puts the new element there and one of which takes the old one
 * away. */
SEC("tc")
int bench_floor(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct floor *floor = bpf_map_lookup_elem(&floor_state, &zero);
	struct event *event;

	if (!floor || draw(skb, DRAW_SOURCE_PORT) < 0)
		return TCX_DROP;
	unit_key(&floor->fresh, floor->next);
	unit_key(&floor->oldest, floor->next - FLOOR_FLOWS);
	floor->next++;
	if (bpf_map_lookup_elem(&floor_map, &floor->oldest))
		bpf_map_delete_elem(&floor_map, &floor->oldest);
	if (bpf_map_update_elem(&floor_map, &floor->fresh, &floor->value, BPF_NOEXIST))
		return TCX_DROP;
	event = bpf_ringbuf_reserve(&event_ring, sizeof(*event), 0);
	if (!event)
		return TCX_DROP;
	fill_event(event, EVENT_NEW, REASON_NONE, 1);
	send_event(event);
	return TCX_NEXT;
}

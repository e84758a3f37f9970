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
	    !is_ready(&c->source))
		return TCX_DROP;
	if (find_entry(c))
		return TCX_DROP;
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

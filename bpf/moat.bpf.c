// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The two hooks of a pod's host-side veth: what the pod sends, and what it is sent; that of the node's
 * uplinks; and the sweep that user space runs. No policy logic here: these programs look up what TypeScript
 * compiled. Every exit has a verdict and a reason. */
#include "carry.h"
#include "hit.h"
#include "neighbour.h"
#include "outside.h"
#include "refuse.h"
#include "sum.h"
#include "sweep.h"
#include "uplink.h"

char license_text[] SEC("license") = "Dual BSD/GPL";

/* Types that no map names, kept in BTF for the generated layouts. */
struct {
	struct event event;
	struct move move;
	enum abi_version version;
	enum drop_reason reason;
	enum table_action action;
	enum action_flag beside_action;
	enum leg_verdict verdict;
	enum leg_index leg;
	enum hook hook;
	enum event_kind kind;
	enum drop_flag drop;
	enum tcp_stage stage;
	enum entry_flag entry;
	enum key_flag key;
	enum budget_kind budget;
	enum queue queue;
	enum endpoint_flag endpoint;
	enum uplink_flag uplink;
	enum node_owner node;
	enum service_scope scope;
	enum clients_flag clients;
	struct client_bound bound;
} abi_anchor;

static __always_inline int start(struct __sk_buff *skb, struct context *c, __u32 hook)
{
	struct state *state = node_state();

	if (!state)
		return 0;
	c->now = bpf_ktime_get_coarse_ns() + state->skew;
	c->epoch = *(volatile __u64 *)&state->epoch;
	c->changes = *(volatile __u64 *)&state->changes;
	asm volatile("" ::: "memory");
	c->hook = hook;
	c->ifindex = skb->ifindex;
	c->bypass = c->now < *(volatile __u64 *)&state->bypass;
	c->rule[0] = c->rule[1] = 0;
	c->audited[0] = c->audited[1] = c->answers = 0;
	c->denied_leg = 0;
	c->own_node = 0;
	c->has_key = 0;
	c->uplink = 0;
	c->direct = c->routed = 0;
	c->service = c->chosen = c->back = c->outside = c->hairpin = c->forward = 0;
	c->alias.family = 0;
	c->source.ifindex = c->destination.ifindex = 0;
	clear_packet(&c->packet, ETH_HLEN);
	return 1;
}

/*
 * Made by this node's own stack: it came by no interface. Fragments forget by which they came where the node
 * has put an IPv6 datagram together (conntrack does) and cuts it up again, but they have a sender's socket
 * only where that is here.
 */
static __always_inline int is_made_here(const struct __sk_buff *skb, const struct packet *p)
{
	if (skb->ingress_ifindex)
		return 0;
	return !(p->flags & (PACKET_FRAGMENT_FIRST | PACKET_FRAGMENT_LATER)) || skb->sk;
}

/* From a pod: only its own addresses. To a pod: only to its own, and whether its own node speaks. */
__attribute__((noinline)) int check_ends(struct __sk_buff *skb, struct context *c)
{
	int proxied;

	c = own_context(c);
	if (!c)
		return REASON_TABLE_ERROR;
	if (find_endpoint(c, &c->packet.source, &c->source) ||
	    find_endpoint(c, &c->packet.destination, &c->destination))
		return REASON_TABLE_ERROR;
	if (c->hook == HOOK_FROM_POD) {
		if (c->source.ifindex != c->ifindex || !mac_equal(c->ethernet + 6, c->source.pod_mac))
			return REASON_SPOOFED_SOURCE;
		return REASON_NONE;
	}
	if (c->destination.ifindex != c->ifindex)
		return REASON_NO_ENDPOINT;
	proxied = (skb->mark & proxy_mark_mask) == proxy_mark;
	/* Else it is somebody else's, whatever its source says. Here, since nobody else asks: routes back may
	 * well differ (no rp_filter). */
	if (c->source.ifindex && !came_from(skb, &c->source) && !proxied)
		return REASON_SPOOFED_SOURCE;
	c->own_node = is_made_here(skb, &c->packet) && is_node_address(&c->packet.source) && !proxied;
	return REASON_NONE;
}

static __always_inline int judge_ip(struct __sk_buff *skb, struct context *c)
{
	int reason;

	if (c->packet.flags & PACKET_NEIGHBOUR)
		return judge_neighbour(skb, c);
	if (is_group(&c->packet.destination) || (c->hook == HOOK_FROM_POD && (c->ethernet[0] & 1)))
		return REASON_MULTICAST;
	if (c->hook == HOOK_FROM_POD && is_hairpin(&c->packet.destination)) {
		begin_hairpin(c, HAIRPIN_BACK, c->packet.destination_port);
		c->packet.destination = c->packet.source;
	} else if (is_nowhere(&c->packet.destination) ||
		   (c->hook == HOOK_TO_POD && is_nobody(&c->packet.source))) {
		return REASON_MALFORMED;
	}
	reason = check_ends(skb, c);
	if (reason)
		return reason;
	if (c->packet.flags & PACKET_FRAGMENT_LATER)
		recall_fragment(c);
	if (may_be_service(c)) {
		reason = translate(skb, c);
		if (reason)
			return reason;
	}
	/* A pod to its own address. */
	if (!c->hairpin && c->source.ifindex && c->source.ifindex == c->destination.ifindex)
		return is_ready(&c->source) ? REASON_NONE : REASON_NO_ENDPOINT;
	if ((c->packet.flags & PACKET_ICMP_ERROR) && !c->hairpin)
		return judge_icmp_error(skb, c);
	reason = judge_packet(skb, c);
	if (!reason && (c->packet.flags & PACKET_FRAGMENT_FIRST))
		remember_fragment(c);
	return reason;
}

/* `place`: where a checksum is still to be written (sum.h), or 0. */
static __always_inline int judge_frame(struct __sk_buff *skb, struct context *c, __u32 place)
{
	int reason;

	if (skb->vlan_present || bpf_skb_load_bytes(skb, 0, c->ethernet, ETH_HLEN))
		return REASON_ETHERTYPE;
	c->ethertype = be16(c->ethernet + 12);
	if (c->ethertype == ETH_P_ARP)
		return place ? REASON_MALFORMED : judge_arp(skb, c);
	if (c->ethertype != ETH_P_IP && c->ethertype != ETH_P_IPV6)
		return REASON_ETHERTYPE;
	reason = parse_packet(skb, c);
	if (!reason && spoils(place, c->packet.protocol, c->packet.transport, c->packet.end))
		reason = REASON_MALFORMED;
	return reason ? reason : judge_ip(skb, c);
}

static __always_inline int run(struct __sk_buff *skb, __u32 hook)
{
	struct context *c = the_context();
	__u32 place = hook == HOOK_FROM_POD ? sum_place(skb) : 0;
	int reason, ordinary, verdict;

	if (!c)
		return TCX_DROP;
	ordinary = glance(skb, &c->glance, hook) &&
		   !spoils(place, c->glance.key.protocol, c->glance.transport, c->glance.end);
	verdict = ordinary ? follow(skb, c, hook) : NOT_FOLLOWED;
	if (verdict != NOT_FOLLOWED)
		return verdict == SPOILED ? drop_spoiled(c) : verdict;
	if (!start(skb, c, hook))
		return TCX_DROP;
	if (ordinary)
		reason = take_glance(skb, c) ? REASON_MALFORMED : judge_ip(skb, c);
	else
		reason = judge_frame(skb, c, place);
	if (!c->bypass && is_closed())
		reason = REASON_TABLE_ERROR;
	else if (reason && !find_mac(c->ifindex, c->mac))
		reason = REASON_NO_ENDPOINT;
	if (reason) {
		if (c->hairpin == HAIRPIN_BACK)
			make_hairpin(&c->packet.destination);
		report_reason(c, reason);
		return hook == HOOK_FROM_POD && reason == REASON_NO_BACKEND ? refuse(skb, c, place != 0)
									    : TCX_DROP;
	}
	if (is_audited(c))
		report_audited(c);
	return deliver(skb, c);
}

SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	return run(skb, HOOK_FROM_POD);
}

SEC("tc")
int to_pod(struct __sk_buff *skb)
{
	return run(skb, HOOK_TO_POD);
}

/* What is no ordinary packet, or marked, at an uplink. Returns 0 where it can't be read. */
static __always_inline int read_odd(struct __sk_buff *skb, struct context *c)
{
	if (!start(skb, c, HOOK_TO_POD) || skb->vlan_present ||
	    bpf_skb_load_bytes(skb, 0, c->ethernet, ETH_HLEN))
		return 0;
	c->uplink = skb->ifindex;
	c->ethertype = be16(c->ethernet + 12);
	return (c->ethertype == ETH_P_IP || c->ethertype == ETH_P_IPV6) && !parse_packet(skb, c);
}

/* Counted and reported as at the pod's own hook, in whose place it stands. */
SEC("tc")
int from_node(struct __sk_buff *skb)
{
	struct counters *counters = node_counters();
	struct context *c = the_context();
	struct ct_value *live;
	int verdict, reason;

	if (!c || !counters || skb->pkt_type != PACKET_FOR_US)
		return TCX_NEXT;
	if (skb->mark || !glance(skb, &c->glance, HOOK_FROM_NODE))
		return has_marks() && read_odd(skb, c) ? leave_to_stack(c) : TCX_NEXT;
	verdict = follow(skb, c, HOOK_FROM_NODE);
	if (verdict != NOT_FOLLOWED)
		return verdict == SPOILED ? drop_spoiled(c) : verdict;
	if (!start(skb, c, HOOK_TO_POD) || take_glance(skb, c))
		return TCX_NEXT;
	c->uplink = skb->ifindex;
	live = may_answer_self(c) ? find_forwarded(c) : 0;
	if (live)
		return serve_back(skb, c, live);
	if (may_be_outside(c)) {
		reason = translate_outside(skb, c);
		if (reason != NOT_SERVED)
			return serve_outside(skb, c, reason);
	}
	if (!find_ends(skb, c))
		return leave_to_stack(c);
	c->ifindex = c->destination.ifindex;
	if (!judge_arrival(skb, c) || is_closed())
		return TCX_NEXT;
	if (is_audited(c))
		report_audited(c);
	count_passed(c);
	counters->delivered++;
	return enter_pod(skb, c);
}

/* Run by user space. Returns how many flows were taken away. */
SEC("syscall")
int sweep(void *ctx)
{
	struct state *state = node_state();
	struct sweep sweep = {.now = bpf_ktime_get_ns()};

	(void)ctx;
	if (state)
		sweep.now += state->skew;
	bpf_for_each_map_elem(&ct_map, sweep_flow, &sweep, 0);
	bpf_for_each_map_elem(&translation_map, sweep_translation, &sweep, 0);
	bpf_for_each_map_elem(&share_map, sweep_share, &sweep, 0);
	bpf_for_each_map_elem(&drop_map, sweep_drop, &sweep, 0);
	return sweep.removed;
}

/* Run by user space, before hooks change over and after. */
SEC("syscall")
int carry_services(void *ctx)
{
	struct carry carry = {.now = bpf_ktime_get_ns()};
	struct state *state = node_state();

	(void)ctx;
	if (!state || !earlier)
		return 0;
	carry.now += state->skew;
	bpf_for_each_map_elem(&earlier_ct_a, carry_translation, &carry, 0);
	bpf_for_each_map_elem(&earlier_ct_b, carry_translation, &carry, 0);
	return 0;
}

/* Run by user space. Returns how many connections found no room. */
SEC("syscall")
int carry(void *ctx)
{
	struct carry carry = {.now = bpf_ktime_get_ns()};
	struct state *state = node_state();

	(void)ctx;
	if (!earlier || !state)
		return 0;
	carry.now += state->skew;
	bpf_for_each_map_elem(&earlier_ct_a, carry_connection, &carry, 0);
	bpf_for_each_map_elem(&earlier_ct_b, carry_connection, &carry, 0);
	return carry.refused;
}

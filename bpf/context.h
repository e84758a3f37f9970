/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is known of the packet being judged. It lives in a per-CPU map, not on the stack: tc programs run with
 * bottom halves off, so no two of them are ever half-way on one CPU. */
#ifndef MOAT_CONTEXT_H
#define MOAT_CONTEXT_H

#include "maps.h"
#include "state.h"

enum packet_flag {
	PACKET_FRAGMENT_FIRST = 1,
	PACKET_FRAGMENT_LATER = 2,
	PACKET_PORTS_UNKNOWN = 4, /* a later fragment whose first one was not seen */
	PACKET_ICMP_ERROR = 8,
	PACKET_ECHO_REQUEST = 16,
	PACKET_ECHO_REPLY = 32,
	PACKET_NEIGHBOUR = 64, /* NDP or MLD */
};

/* Numbers of a TCP segment. */
struct segment {
	__u32 sequence;
	__u32 acknowledged;
	__u32 end; /* the number after it: SYN and FIN take one each */
};

struct packet {
	struct addr source;
	struct addr destination;
	__u32 network; /* offset of the IP header */
	__u32 transport;
	__u32 end; /* offset after the last byte of the IP packet */
	__u32 fragment_id;
	struct segment segment; /* TCP */
	__u16 source_port;      /* ICMP echo: its id */
	__u16 destination_port; /* ICMP: type << 8 | code */
	__u16 echo_id;
	__u8 protocol;
	__u8 tcp_flags;
	__u8 ttl;
	__u8 flags;
};

/* An ordinary packet: TCP or UDP, whole, and to one receiver. */
struct glance {
	struct ct_key key;
	__u32 side; /* of the source in the key */
	__u32 transport;
	__u32 header; /* length of the transport header */
	__u32 end;
	struct segment segment; /* TCP */
	__u8 ttl;
	__u8 tcp_flags;
};

/* From a pod to itself, by a Service (hairpin.h): what it asks, and what it answers. */
enum hairpin { HAIRPIN_NONE, HAIRPIN_FORTH, HAIRPIN_BACK };

struct context {
	struct glance glance;
	__u64 now;
	__u64 epoch;   /* read before any table: what is judged by older tables is judged again */
	__u64 changes; /* of the hashes, before any look-up */
	struct packet packet;
	struct packet inner; /* of an ICMP error */
	__u8 ethernet[14];
	__u8 mac[6]; /* the pod's */
	__u16 ethertype;
	__u32 hook;
	__u32 ifindex;
	/* Local endpoints at the packet's two ends; `ifindex` 0 = the address is not local. */
	struct endpoint source;
	struct endpoint destination;
	__u32 own_node;
	__u32 uplink; /* at an uplink's hook, its interface; 0 at a pod's */
	/* Services (service.h) */
	__u32 service; /* the packet was one to a Service, and goes to a backend now, */
	__u32 chosen;  /* which was chosen for it: no translation said so */
	__u32 outside; /* at an uplink: enum service_scope */
	__u32 back;    /* it answers such a flow, and enters its initiator's pod as the Service's */
	__u32 hairpin; /* enum hairpin: its backend is the pod that sends it */
	__u32 forward; /* its backend is at another node, and this one speaks for the client (forward.h) */
	struct addr alias; /* of the client where the packet's backend is; family 0: it has none */
	__u32 alias_port;
	struct ct_key meant;
	__u32 meant_tag;
	__u32 meant_side;          /* of the initiator in `meant` */
	struct addr meant_address; /* the Service's, also of what answers for it */
	__u32 meant_port;
	struct translation translation;
	struct affinity_key affinity_key;
	struct affinity affinity;
	/* Past the stack */
	__u32 direct; /* the packet's flow may */
	__u32 routed; /* the interface that `next_hop` is on, once it was looked up */
	struct bpf_redir_neigh next_hop;
	struct bpf_fib_lookup route;
	/* Conntrack */
	struct ct_key key;
	struct ct_key gone[2]; /* of a flow that gives way, and room for what it was sent as */
	struct ct_value entry;
	__u64 before; /* the stage of what was found */
	__u32 key_tag;
	__u32 has_key; /* the packet's key is made already */
	__u32 side;    /* of the packet's source in the key */
	__u32 found;   /* enum found */
	__u32 held;    /* the holder of what was found, */
	__u32 place;   /* and its place */
	/* The judgement, in the initiator's direction */
	__u32 position;
	__u32 identity; /* of the peer of the leg being judged */
	__u32 exact;    /* the peer's own address has it, not a block's */
	__u32 rule[LEG_COUNT];
	__u32 reason[LEG_COUNT];
	__u32 owned[LEG_COUNT];
	__u32 audited[LEG_COUNT]; /* the reason of a denial that is let through */
	__u32 bypass;             /* all are */
	__u32 answers;            /* the packet goes against its flow's initiator */
	__u32 denied_leg;         /* 0 = none, else 1 + leg_index */
	struct drop_key drop;
	union {
		struct prefix4_key prefix4;
		struct prefix6_key prefix6;
	};
	struct addr masked;
	__u8 bytes[64];
	__u8 made[80]; /* headers of what a packet becomes (refuse.h) */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct context);
} context_map SEC(".maps");

static __always_inline struct context *the_context(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&context_map, &zero);
}

/* What a function of its own begins with. The loader takes away the branch that is not for this kernel. */
static __always_inline struct context *own_context(struct context *c)
{
	return strict_keys ? the_context() : c;
}

static __always_inline struct counters *node_counters(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&counter_map, &zero);
}

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Every layout and number that the kernel programs share with user space. src/datapath/ebpf/abi.gen.ts is
 * generated from this file's BTF by tools/gen-abi.ts; nothing of it is ever copied by hand. */
#ifndef MOAT_ABI_H
#define MOAT_ABI_H

#include <linux/types.h>

#define MAX_LAYERS 4
#define ARENA_STEPS 24 /* a table has at most 2^24 intervals: one for each position of the axis */
#define IDENTITY_UNKNOWN 0x80000000u
#define CREATED_SHIFT 20 /* about a millisecond */
#define QUEUE_SHIFT 4

/* Raised with every change of a layout or a meaning that outlives a process. A field that changes its meaning
 * changes its name: what another version left is read by the names of its fields. */
enum abi_version {
	ABI_VERSION_CURRENT = 13,
};

/* Same names and order as DROP_REASONS in src/datapath/port.ts; a test compares them. */
enum drop_reason {
	REASON_NONE,
	REASON_POLICY,
	REASON_PEER_UNKNOWN,
	REASON_NO_ENDPOINT,
	REASON_NO_IDENTITY,
	REASON_TABLE_ERROR,
	REASON_MALFORMED,
	REASON_ETHERTYPE,
	REASON_EXTENSION_HEADER,
	REASON_V4_MAPPED,
	REASON_SPOOFED_SOURCE,
	REASON_SPOOFED_NEIGHBOUR,
	REASON_MULTICAST,
	REASON_FRAGMENT_UNKNOWN,
	REASON_FRAGMENT_TINY,
	REASON_MID_FLOW,
	REASON_CONNTRACK_FULL,
	REASON_ICMP_UNRELATED,
	REASON_DENIED_EARLIER,
	REASON_NO_BACKEND,
	REASON_COUNT,
};

/* Zero is deny, so that an empty record denies. */
enum table_action { ACTION_DENY, ACTION_ALLOW, ACTION_REJECT, ACTION_PASS, ACTION_UNDECIDED };

/* Beside a denial: policies of the endpoint's own namespace alone say so. */
enum action_flag { ACTION_OWN = 8 };

enum leg_index { LEG_EGRESS, LEG_INGRESS, LEG_COUNT };

/* VERDICT_AUDIT: denied, and let through. It holds for one packet: its epoch is 0, before every other.
 * VERDICT_ELSEWHERE: neither end is here, and nobody is judged (forward.h): the legs' epochs are the address
 * of who asked. */
enum leg_verdict { VERDICT_NONE, VERDICT_DENY, VERDICT_ALLOW, VERDICT_AUDIT, VERDICT_ELSEWHERE };

enum hook { HOOK_FROM_POD, HOOK_TO_POD, HOOK_COUNT, HOOK_FROM_NODE = HOOK_COUNT };

/* EVENT_AUDIT: what would have been a drop. */
enum event_kind { EVENT_NEW, EVENT_CLOSE, EVENT_DROP, EVENT_AUDIT };

/* Beside a reason: the packet passed. */
enum drop_flag { DROP_AUDITED = 0x80 };

enum tcp_stage { TCP_STAGE_NONE, TCP_SYN_SENT, TCP_SYN_ACKED, TCP_OPEN, TCP_CLOSING };

/* Drops, connections, and what passes by audit have events of their own, so that none keeps another's back;
 * and what tells a pod that it is refused takes of none. */
enum budget_kind { BUDGET_DROPS, BUDGET_FLOWS, BUDGET_REFUSALS, BUDGET_AUDITS, BUDGET_COUNT };

enum entry_flag {
	ENTRY_HOST = 1,          /* opened by the pod's own node: the ingress leg was not judged */
	ENTRY_TOMBSTONE = 2,     /* cut by a recheck: denies until it expires */
	ENTRY_SERVICE = 4,       /* sent to a Service: `original` is what its initiator meant */
	ENTRY_FIN_INITIATOR = 8, /* its FIN was received: the other end said so */
	ENTRY_FIN_RESPONDER = 16,
	ENTRY_ASSURED = 32, /* it takes one of its holder's assured places, and none of its queue */
	ENTRY_DIRECT =
	    64, /* its first packet was seen as it is on the way past the stack: nobody translates it */
	ENTRY_FROZEN = 128, /* about to be taken away or replaced, by who froze it: nobody else moves it */
};

enum endpoint_flag {
	ENDPOINT_READY = 1, /* a policy set is known; without it everything is denied */
	ENDPOINT_REDIRECT =
	    2, /* its veth may be skipped: ENDPOINT_PLAIN, and every pod has this version's hooks */
	ENDPOINT_ADOPT = 4,      /* flows older than Moat are adopted until adopt_until */
	ENDPOINT_BANK = 8,       /* which of the two banks of address maps its policy sets speak of */
	ENDPOINT_AUDIT_OWN = 16, /* what ACTION_OWN denies passes, and is told */
	ENDPOINT_AUDIT_ALL = 32, /* so does all that judging it denies */
	ENDPOINT_PLAIN =
	    64, /* its veth is ours, unbridged, without a foreign program, with the default qdisc */
};

/* Families that the node forwards at an uplink, and that may go past its stack there; and a bridge whose
 * every port has a pod's hooks, which have seen to the source of whatever comes out of it. */
enum uplink_flag { UPLINK_IPV4 = 1, UPLINK_IPV6 = 2, UPLINK_BRIDGE = 4 };

/* Whose an address in node_map is. */
enum node_owner { NODE_OWN = 1, NODE_OTHER = 2 };

/* IPv4 stands in w[0]. Words are as on the wire. */
struct addr {
	__u32 w[4];
	__u8 family; /* 4 or 6 */
	__u8 pad[3];
};

struct prefix4_key {
	__u32 length;
	__u32 w[1];
};

struct prefix6_key {
	__u32 length;
	__u32 w[4];
};

struct class_key {
	__u32 layer;
	__u32 identity;
};

/* Hash values are one 8-byte word: what is meant, and a tag of the key it is meant for (datapath.md, section
 * 3). */
struct tagged {
	__u32 value;
	__u32 tag;
};

/* Immutable once published, but for `live`. */
struct endpoint {
	/* slot << 32 | generation while the address leads here, 0 from then on */
	__u64 live;
	__u64 epoch;
	__u64 adopt_until; /* ktime, ns */
	struct addr self;
	__u32 ifindex;
	__u32 generation; /* never reused: what an earlier owner of the address opened is dead */
	__u32 egress_set;
	__u32 ingress_set;
	__u32 flags;
	__u32 mtu;
	__u8 pod_mac[6];
	__u8 host_mac[6];
};

/* One interval's start; it ends where the next begins. In a table's header it is the number of records. */
struct arena_record {
	__u32 start;
	__u32 action;
	__u32 rule;
	__u32 order;
};

struct set_layer {
	__u32 layer;
	__u32 base; /* arena offset, 0 = no rule for any peer */
};

struct set_slot {
	__u32 count;
	__u32 pad;
	struct set_layer layers[MAX_LAYERS];
};

/* The node's own numbers; mapped by user space. */
struct state {
	__u64 epoch;  /* the one monotonic counter */
	__u64 closed; /* not 0: an update failed half-way, everything is denied */
	__u64 high;   /* highest rule, layer or identity number ever used */
	__u64 generation;
	__u64 abi_version;
	__u64 changes; /* odd while a hash is being changed: then a miss may be a look-up gone astray */
	__u64 skew;    /* tests move the clock by it, in nanoseconds */
	__u64 marked;  /* not 0: service_marks has a bit */
	__u64 bypass;  /* until then (ktime, ns) every endpoint is as with ENDPOINT_AUDIT_ALL */
	/* The addresses by which the node speaks for clients outside (forward.h), bytes as on the wire; 0 =
	 * it does not. */
	__u64 self4;
	__u64 self6_first;
	__u64 self6_last;
};

enum key_flag {
	KEY_ONE_WAY = 0x80,  /* ICMP that is no echo */
	KEY_FRAGMENT = 0x40, /* no flow, but what the first fragment of a datagram said */
};

/* Both directions of a flow have one key: the lower (address, port) first. */
struct ct_key {
	__u8 family; /* of the addresses, and enum key_flag */
	__u8 protocol;
	__u16 sub;     /* ICMP echo: 1 + the requester's side; other ICMP: type << 8 | code */
	__u16 port[2]; /* of a datagram in fragments: its id */
	__u32 address[2][4];
} __attribute__((aligned(8)));

struct ct_leg {
	__u64 epoch;
	__u32 generation;
	__u32 rule; /* 0 = no rule decided */
};

struct ct_value {
	__u64 head; /* stamp << 32 | tag of the key; equal to tail, or the element was recycled under the
		       reader */
	__u64 last_seen;
	__u32 next[2];    /* TCP: the next number of the initiator's, and of the responder's */
	__u32 fin[2];     /* the number after each one's FIN; 0 = none */
	__u64 packets[2]; /* from the initiator, from the responder */
	__u64 bytes[2];
	struct ct_leg leg[LEG_COUNT];
	/* One word: a connection's stage moves in place, by one exchange that the key's tag is part of. */
	__u8 verdict[LEG_COUNT];
	__u8 initiator; /* side of the key, 0 or 1 */
	__u8 flags;
	__u8 tcp;
	__u8 tag[3];

	__u32 position;    /* on the axis, of the initiator's direction */
	__u32 holder;      /* the interface whose pod it takes room of; 0 = not decided yet */
	__u32 place;       /* in its holder's queue, while it is not assured */
	__u32 created;     /* ktime >> CREATED_SHIFT */
	__u32 original[4]; /* of ENTRY_SERVICE: the Service that the initiator meant */
	__u32 original_port;
	__u32 asker_port;      /* with VERDICT_ELSEWHERE: of who asked */
	__u32 slot[LEG_COUNT]; /* where the record of the leg's endpoint may be: no more than a hint */
	__u64 tail;
};

#define EARLIER_MOVES 16 /* of bytes, from one layout of a struct to another */
#define EARLIER_BYTES 256

struct move {
	__u16 from;
	__u16 into;
	__u16 length; /* 0 = no move */
};

enum queue { QUEUE_PART = 1 << QUEUE_SHIFT };

/* A part of a pod's queue: QUEUE_PART places. */
struct queue_key {
	__u32 ifindex;
	__u32 number;
};

struct queue_part {
	struct ct_key keys[QUEUE_PART];
};

/* Tokens for events and refusals. */
struct budget {
	__u64 time;
	__u64 tokens;
};

/* What a pod takes of the room that all share, or what all of them take. Signed: more than one CPU counts. */
struct share {
	__s64 assured;
	/* Places ever given and given back: those between are its queue. */
	__s64 head;
	__s64 tail;
	struct budget budgets[BUDGET_COUNT];
};

struct drop_key {
	struct addr source;
	struct addr destination;
	__u16 source_port;
	__u16 destination_port;
	__u8 protocol;
	__u8 reason; /* and enum drop_flag */
	__u8 hook;
	__u8 leg;
};

struct drop_value {
	__u64 since;
	__u32 pending;
	__u32 egress_rule;
	__u32 ingress_rule;
	__u32 ifindex;
};

struct event {
	__u64 time;
	struct addr source;
	struct addr destination;
	__u32 ifindex;
	__u32 egress_rule;
	__u32 ingress_rule;
	__u32 count;
	__u16 source_port;
	__u16 destination_port;
	__u8 kind;
	__u8 hook;
	__u8 reason;
	__u8 leg; /* 0 = none, else 1 + leg_index */
	__u8 protocol;
	__u8 pad[3];
	__u32 pad2;
};

/* Per CPU; summed by readers. */
struct counters {
	__u64 drops[REASON_COUNT];
	__u64 audited[REASON_COUNT]; /* would have been drops */
	__u64 passed[HOOK_COUNT];
	__u64 redirected; /* past the stack: from pod to pod, */
	__u64 routed;     /* from a pod to an uplink, */
	__u64 delivered;  /* from an uplink to a pod, */
	__u64 forwarded;  /* and from an uplink to another node, or back to who asked */
	__u64 lost;       /* events that found no room, exactly */
	__u64 evicted;    /* unassured flows that gave way to newer ones of the same pod */
};

_Static_assert(sizeof(struct addr) == 20, "addr is a map key");
_Static_assert(sizeof(struct ct_key) == 40, "ct_key is a map key");
_Static_assert(sizeof(struct class_key) == 8, "class_key is a map key");
_Static_assert(sizeof(struct tagged) == 8, "tagged is read in one load");
_Static_assert(sizeof(struct arena_record) == 16, "records are addressed by index");
_Static_assert(sizeof(struct set_slot) % 8 == 0, "mapped arrays have 8-byte steps");
_Static_assert(sizeof(struct endpoint) == 80, "endpoint has no hidden padding");
_Static_assert(__builtin_offsetof(struct ct_value, verdict) % 8 == 0, "a stage is exchanged as one word");
_Static_assert(sizeof(struct ct_value) == 160, "ct_value has no hidden padding");
_Static_assert(sizeof(struct queue_key) == 8, "queue_key is a map key");
_Static_assert(sizeof(struct drop_key) == 48, "drop_key is a map key");
_Static_assert(sizeof(struct event) % 8 == 0, "events are 8-byte aligned in the ring");

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What of abi.h is about Services. */
#ifndef MOAT_SERVICE_ABI_H
#define MOAT_SERVICE_ABI_H

#include "abi.h"

#define PLACES_RECORD 4
#define CLIENT_STEPS 14 /* a Service has less than 2^14 boundaries */
#define SERVICE_MARKS (1 << 20)
#define TRANSLATION_HELD (1ull << 32)

/* Whom a Service's port is for: pods and sockets of this node, or who arrives at an uplink. */
enum service_scope { SCOPE_INSIDE, SCOPE_OUTSIDE };

/* A port of a Service, at one of its addresses. */
struct service_key {
	struct addr address;
	__u16 port;
	__u8 protocol;
	__u8 scope; /* enum service_scope */
};

/* Beside how many boundaries a Service's clients have: the node's own are none of its clients. */
enum clients_flag { CLIENTS_NOT_NODE = 1 << 30 };

/* Immutable once published. */
struct service {
	__u32 places;   /* the first record of its places */
	__u32 count;    /* how many places; 0 = nobody serves */
	__u32 affinity; /* for so many seconds after its last new flow a client stays with its backend; 0 =
			   not at all */
	__u32 clients;  /* how many records behind those of its places are boundaries (struct client_bound); 0
			   =  whoever asks. And enum clients_flag */
};

/* Places of a Service's table: slots of backends. Immutable once published. */
struct service_places {
	__u32 backend[PLACES_RECORD];
};

/* The same record, as a boundary: ascending, whose address is not below an odd number of them is a client.
 * Words of an address as numbers, the first one the highest; IPv4 has that alone. */
struct client_bound {
	__u32 w[4];
};

/* Immutable once published, but for `live`. */
struct backend {
	__u64 live; /* slot << 32 | generation while it serves, 0 from then on */
	__u32 address[4];
	__u32 port;
	__u32 generation; /* never reused */
};

/* Where the packets of a flow to a Service go, by its key as its initiator sends it. It stands as long as the
 * flow's entry does. */
struct translation {
	__u64 head; /* stamp << 32 | tag of the key; equal to tail, or the element was recycled under the
		       reader */
	__u32 address[4];
	__u32 self[4]; /* the node's own, as which its packets go on; where self_port is not 0 */
	__u16 port;
	__u16 self_port;
	__u32 slot; /* of the backend */
	__u32 generation;
	__u32 side; /* the initiator's, in the key */
	/* Tag of the key, and TRANSLATION_HELD while it is taken away or replaced: one exchange. */
	__u64 hold;
	__u64 tail;
};

/* A client of a port of a Service that keeps its clients with their backends. */
struct affinity_key {
	struct service_key service;
	__u32 client[4]; /* of the Service's family */
};

/* To whom it went with its last new flow. */
struct affinity {
	__u64 head; /* stamp << 32 | tag of the key; equal to tail, or the element was recycled under the
		       reader */
	__u64 last; /* ktime, ns */
	__u32 hash; /* what chose that backend: chooses it again where nobody knows the slot any more */
	__u32 slot; /* of the backend */
	__u32 generation;
	__u32 pad;
	__u64 tail;
};

_Static_assert(sizeof(struct service_key) == 24, "service_key is a map key");
_Static_assert(sizeof(struct service) == 16, "records are addressed by index");
_Static_assert(sizeof(struct affinity_key) == 40, "affinity_key is a map key");
_Static_assert(sizeof(struct affinity) == 40, "affinity has no hidden padding");
_Static_assert(sizeof(struct service_places) == 16, "records are addressed by index");
_Static_assert(sizeof(struct client_bound) == sizeof(struct service_places), "they stand in one array");
_Static_assert(sizeof(struct backend) == 32, "backend has no hidden padding");
_Static_assert(sizeof(struct translation) == 72, "translation has no hidden padding");

#endif

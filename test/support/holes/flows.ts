// What opens a flow, what ends it, and what policy says of it.
import { type Hole, inPrograms } from './fault.ts';

const CONFORMANCE = 'src/datapath/ebpf/conformance.test.ts';
const FLOW = 'src/datapath/ebpf/flow.test.ts';
const DELIVERY = 'src/datapath/ebpf/delivery.test.ts';

export const FLOWS: readonly Hole[] = [
  {
    rule: 'TCP is opened by a SYN without ACK',
    file: CONFORMANCE,
    test: 'a TCP connection is opened by a SYN without ACK and by nothing else',
    faults: [inPrograms('flow.h', 'if (p->protocol == IPPROTO_TCP && !is_syn(p))', 'if (0)')],
  },
  {
    rule: 'An echo reply opens nothing',
    file: CONFORMANCE,
    test: 'an echo reply that nobody asked for is dropped',
    faults: [inPrograms('flow.h', 'if (p->flags & PACKET_ECHO_REPLY)\n\t\treturn REASON_MID_FLOW;', '')],
  },
  {
    rule: 'A SYN on a closing connection is a new one',
    file: CONFORMANCE,
    test: 'a connection opened anew on the ports of a closed one is a whole one',
    faults: [
      inPrograms(
        'flow.h',
        'if (c->entry.tcp == TCP_CLOSING || (c->entry.flags & ENTRY_TOMBSTONE))\n\t\t\treturn open_flow',
        'if (c->entry.flags & ENTRY_TOMBSTONE)\n\t\t\treturn open_flow',
      ),
    ],
  },
  {
    rule: 'A SYN from the side that was asked is never this connection',
    file: CONFORMANCE,
    test: 'a SYN from the side that was asked is judged in its own direction',
    faults: [inPrograms('flow.h', 'if (!from_initiator)\n\t\t\treturn open_flow', 'if (0)\n\t\t\treturn open_flow')],
  },
  {
    rule: 'A packet is judged in its initiator’s direction, whichever way it travels',
    file: FLOW,
    test: 'judges a reply as its initiator’s connection',
    faults: [inPrograms('flow.h', 'reason = judge_flow(c, from_initiator);', 'reason = judge_flow(c, 1);')],
  },
  {
    rule: 'Flows older than the hooks are adopted for a time',
    file: DELIVERY,
    test: 'adopts a connection older than its hooks where it is told to, for a time',
    faults: [
      inPrograms(
        'flow.h',
        '(endpoint->flags & ENDPOINT_ADOPT) && c->now < endpoint->adopt_until)',
        '(endpoint->flags & ENDPOINT_ADOPT) && c->now)',
      ),
    ],
  },
  {
    rule: 'A flow that is denied from now on leaves a tombstone, so that no retransmit opens it the other way',
    file: CONFORMANCE,
    test: 'a retransmit from the other side of a cut flow does not open a fresh one its own way',
    faults: [
      inPrograms(
        'flow.h',
        'if (!c->uplink || c->outside)\n\t\t\t\tbury(c, from_initiator);',
        'bpf_map_delete_elem(&ct_map, &c->key);',
      ),
    ],
  },
  {
    rule: 'No packet takes a tombstone away',
    file: CONFORMANCE,
    test: 'no packet takes the tombstone of a cut connection away',
    faults: [
      inPrograms(
        'flow.h',
        'if (is_cut_for_good(c, from_initiator)) {',
        'if (is_cut_for_good(c, from_initiator)) {\n\t\tif (c->packet.tcp_flags & TCP_RST)\n\t\t\tbpf_map_delete_elem(&ct_map, &c->key);',
      ),
    ],
  },
  {
    rule: 'The next owner of an address has other generations, and inherits no flow',
    file: CONFORMANCE,
    test: 'the next owner of an address is in no TCP connection of the last one',
    faults: [
      inPrograms(
        'conntrack.h',
        'c->entry.leg[leg & 1].generation != owner->generation;',
        'c->entry.leg[leg & 1].generation == ~owner->generation;',
      ),
    ],
  },
  {
    rule: 'ICMP errors pass for live connections alone',
    file: CONFORMANCE,
    test: 'an ICMP error about no live connection is dropped, though all else is open',
    faults: [
      inPrograms(
        'related.h',
        'if (!find_entry_surely(c) || (c->entry.flags & ENTRY_TOMBSTONE))\n\t\treturn c->own_node ? REASON_NONE : REASON_ICMP_UNRELATED;',
        'if (!find_entry_surely(c) || (c->entry.flags & ENTRY_TOMBSTONE))\n\t\treturn REASON_NONE;',
      ),
    ],
  },
  {
    rule: 'A pod tells of errors about what was sent to itself',
    file: CONFORMANCE,
    test: 'a pod may refuse what is sent to it, and can forge no error about others',
    faults: [
      inPrograms(
        'related.h',
        'if (c->hook == HOOK_FROM_POD && !addr_equal(&inner->destination, &outer->source))',
        'if (0)',
      ),
    ],
  },
  {
    rule: 'ICMP errors keep nothing alive',
    file: CONFORMANCE,
    test: 'an ICMP error opens nothing and keeps nothing alive',
    faults: [
      inPrograms(
        'related.h',
        '\tif (!inner_flow_stands(c, from_initiator))',
        '\t{\n\t\tstruct ct_value *seen = bpf_map_lookup_elem(&ct_map, &c->key);\n\n\t\tif (seen)\n\t\t\tseen->last_seen = c->now;\n\t}\n\tif (!inner_flow_stands(c, from_initiator))',
      ),
    ],
  },
  {
    rule: 'A full table refuses new connections and evicts none',
    file: CONFORMANCE,
    test: 'a full table of established connections refuses new ones and evicts none',
    faults: [
      inPrograms(
        'share.h',
        'all->assured >= room || !may_have_more(own->assured, all->assured, room, greed)',
        '!may_have_more(own->assured, 0, room + (1 << 20), greed)',
      ),
    ],
  },
  {
    rule: 'Flows end as long after their last packet as it is said, and not before',
    file: 'test/ebpf-is-reference.test.ts',
    test: 'frames on changing worlds fare in the kernel as in the reference',
    faults: [
      inPrograms('maps.h', 'timeout_tcp_half = 60', 'timeout_tcp_half = 58'),
      inPrograms('maps.h', 'timeout_udp = 120', 'timeout_udp = 118'),
      inPrograms('maps.h', 'timeout_other = 60', 'timeout_other = 58'),
      inPrograms('maps.h', 'timeout_fragment = 30', 'timeout_fragment = 28'),
    ],
  },
  {
    rule: 'Those of a pod that has gone give their room back after a minute without a packet, and not before',
    file: 'src/datapath/ebpf/gone-pods.test.ts',
    test: 'are kept for a minute without a packet, and swept then, though their time-out is longer; others are not',
    faults: [inPrograms('maps.h', 'timeout_left = 60', 'timeout_left = 58')],
  },
  {
    rule: 'and those of a pod that is here keep it until they expire',
    file: 'src/datapath/ebpf/gone-pods.test.ts',
    test: 'are kept for a minute without a packet, and swept then, though their time-out is longer; others are not',
    faults: [inPrograms('sweep.h', '!bpf_map_lookup_elem(&iface_map, &holder)', 'holder')],
  },
];

export const POLICY: readonly Hole[] = [
  {
    rule: 'The earlier of two rules decides',
    file: CONFORMANCE,
    test: 'of a rule for any peer and one for this peer, the earlier decides',
    faults: [inPrograms('policy.h', 'class.order < base.order', 'class.order > base.order')],
  },
  {
    rule: 'An address without identity is denied',
    file: FLOW,
    test: 'denies a peer without any identity',
    faults: [
      inPrograms(
        'policy.h',
        'if (!read_prefix(c, address, bank, &found) || !found.value)\n\t\treturn REASON_NO_IDENTITY;',
        'if (!read_prefix(c, address, bank, &found))\n\t\tfound.value = 0;',
      ),
    ],
  },
  {
    rule: 'A local packet is judged for both ends where it leaves',
    file: CONFORMANCE,
    test: 'a packet between two local pods is judged for both ends where it leaves',
    faults: [
      inPrograms(
        'legs.h',
        'ingress = judge_leg(c, LEG_INGRESS, &c->destination, &c->packet.source);',
        'ingress = c->hook == HOOK_FROM_POD ? 0 : judge_leg(c, LEG_INGRESS, &c->destination, &c->packet.source);',
      ),
    ],
  },
  {
    rule: 'A packet that reaches a pod is judged there',
    file: CONFORMANCE,
    test: 'a packet that reaches a pod is always judged there, whoever sent it',
    faults: [
      inPrograms(
        'legs.h',
        'ingress = judge_leg(c, LEG_INGRESS, &c->destination, &c->packet.source);',
        'ingress = c->hook == HOOK_TO_POD ? 0 : judge_leg(c, LEG_INGRESS, &c->destination, &c->packet.source);',
      ),
    ],
  },
  {
    rule: 'An endpoint without a record is closed, to its pod and to senders',
    file: CONFORMANCE,
    test: 'an interface without an endpoint record is closed',
    faults: [
      inPrograms(
        'flow.h',
        'if ((c->source.ifindex && !is_ready(&c->source)) ||\n\t    (c->destination.ifindex && !is_ready(&c->destination)))',
        'if (0)',
      ),
      inPrograms(
        'legs.h',
        'if (!(owner->flags & ENDPOINT_READY))\n\t\treturn REASON_NO_ENDPOINT;',
        'if (!(owner->flags & ENDPOINT_READY))\n\t\treturn REASON_NONE;',
      ),
    ],
  },
  {
    rule: 'Past the stack only where nobody’s program or queue is skipped',
    file: DELIVERY,
    test: 'goes straight to the neighbour, and by the stack where the neighbour’s interface has a queue',
    faults: [
      inPrograms(
        'deliver.h',
        'return (to->flags & ENDPOINT_REDIRECT) && length <= to->mtu;',
        'return length <= to->mtu;',
      ),
    ],
  },
  {
    rule: 'What events are shed is counted',
    file: 'src/datapath/ebpf/full.test.ts',
    test: 'counts what a full ring of events sheds',
    faults: [inPrograms('event.h', 'if (!event) {\n\t\tcount_lost(count);', 'if (!event) {')],
  },
];

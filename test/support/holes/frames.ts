// What a pod or the network may send: frames that are not read otherwise than by their receiver, and sources that are true.
import { type Hole, inPrograms } from './fault.ts';

const CONFORMANCE = 'src/datapath/ebpf/conformance.test.ts';
const FLOW = 'src/datapath/ebpf/flow.test.ts';
const WIRE = 'src/datapath/ebpf/wire.test.ts';
const WIRE_ATTACKS = 'src/datapath/ebpf/wire-attacks.test.ts';
const MARKS = 'src/datapath/ebpf/marks.test.ts';
const FOLLOW = 'src/datapath/ebpf/follow.test.ts';

export const PARSING: readonly Hole[] = [
  {
    rule: 'What contradicts itself is dropped',
    file: CONFORMANCE,
    test: 'an IPv4 header that contradicts itself is malformed',
    faults: [inPrograms('parse.h', 'length < header || length > room)', 'length < header)')],
  },
  {
    rule: 'IPv6 packets with IPv4 addresses are dropped',
    file: CONFORMANCE,
    test: 'IPv6 packets with IPv4 addresses inside are dropped',
    faults: [inPrograms('parse.h', 'if (v4_mapped(p->source.w) || v4_mapped(p->destination.w))', 'if (0)')],
  },
  {
    rule: 'A later fragment without its first one passes only where every port would',
    file: CONFORMANCE,
    test: 'a later fragment whose first one was not seen is dropped where the port matters',
    faults: [inPrograms('policy.h', 'if (!covers(offset, index ? index : offset, q->last))', 'if (0)')],
  },
  {
    rule: 'A TCP fragment that could rewrite flags is dropped',
    file: CONFORMANCE,
    test: 'a TCP fragment that could rewrite the flags of the first is dropped',
    faults: [inPrograms('parse.h', 'if ((fragment & 0x1fff) == 1 && p->protocol == IPPROTO_TCP)', 'if (0)')],
  },
  {
    rule: 'Of IPv6, no fragment overlaps the first one’s header, whatever it says of its protocol',
    file: CONFORMANCE,
    test: 'a later fragment can rewrite nothing of the first, whatever it says of its protocol',
    faults: [inPrograms('parse.h', 'if (offset >> 3 == 1)', 'if (offset >> 3 == 1 && header[0] == IPPROTO_TCP)')],
  },
  {
    rule: 'No extension header stands behind a first fragment’s header',
    file: CONFORMANCE,
    test: 'a first fragment with extension headers behind its fragment header is dropped',
    faults: [inPrograms('parse.h', 'if (p->flags & PACKET_FRAGMENT_FIRST)\n\t\t\treturn', 'if (0)\n\t\t\treturn')],
  },
  {
    rule: 'A route that leads elsewhere after the judgement is dropped',
    file: CONFORMANCE,
    test: 'an IPv4 source route is malformed',
    faults: [inPrograms('parse.h', 'if (option == V4_OPTION_LSRR || option == V4_OPTION_SSRR)', 'if (0)')],
  },
  {
    rule: 'Frames with VLAN tags are dropped, those that the kernel took out too',
    file: WIRE,
    test: 'with VLAN tags, which the kernel takes out of the frame',
    faults: [
      inPrograms('moat.bpf.c', 'if (skb->vlan_present || bpf_skb_load_bytes', 'if (bpf_skb_load_bytes'),
      inPrograms('glance.h', 'skb->vlan_present || ', ''),
    ],
  },
];

export const SOURCES: readonly Hole[] = [
  {
    rule: 'A pod sends from its own addresses',
    file: CONFORMANCE,
    test: 'a pod that has stolen address and MAC of its neighbour is not taken for it',
    faults: [inPrograms('moat.bpf.c', 'if (c->source.ifindex != c->ifindex || !mac_equal', 'if (!mac_equal')],
  },
  {
    rule: 'A pod sends with its own MAC',
    file: CONFORMANCE,
    test: 'a pod sends with its own MAC only',
    faults: [
      inPrograms(
        'moat.bpf.c',
        'if (c->source.ifindex != c->ifindex || !mac_equal(c->ethernet + 6, c->source.pod_mac))',
        'if (c->source.ifindex != c->ifindex)',
      ),
    ],
  },
  {
    rule: 'Packets of open flows have their own source too',
    file: FOLLOW,
    test: 'come by their own interface, from their own MAC',
    faults: [inPrograms('hit.h', 'return source && source->ifindex == skb->ifindex &&', 'return source &&')],
  },
  {
    rule: 'Nobody has the rights of a pod of this node by its address alone',
    file: CONFORMANCE,
    test: 'who has stolen the address of a pod of this node',
    faults: [inPrograms('moat.bpf.c', 'if (c->source.ifindex && !came_from(skb, &c->source) && !proxied)', 'if (0)')],
  },
  {
    rule: 'The own node is who made the packet here, not whose address it has',
    file: CONFORMANCE,
    test: 'a packet with the address of the own node that its stack did not make is judged',
    faults: [inPrograms('moat.bpf.c', 'if (skb->ingress_ifindex)\n\t\treturn 0;', '')],
  },
  {
    rule: 'Fragments in the name of the own node are its own only where they have a socket here',
    file: WIRE,
    test: 'does not take for its own what comes with its address in fragments',
    faults: [
      inPrograms(
        'moat.bpf.c',
        '(PACKET_FRAGMENT_FIRST | PACKET_FRAGMENT_LATER)) || skb->sk;',
        '(PACKET_FRAGMENT_FIRST | PACKET_FRAGMENT_LATER)) || 1;',
      ),
    ],
  },
  {
    rule: 'What a proxy sends is not the own node',
    file: FLOW,
    test: 'passes what its own node sends, and the replies; not what the node forwards or proxies',
    faults: [
      inPrograms(
        'moat.bpf.c',
        'is_node_address(&c->packet.source) && !proxied;',
        'is_node_address(&c->packet.source);',
      ),
    ],
  },
  {
    rule: 'A connection of the own node is nobody else’s',
    file: CONFORMANCE,
    test: 'masqueraded traffic on the ports of a probe of the own node is judged',
    faults: [
      inPrograms(
        'flow.h',
        'return c->hook == HOOK_TO_POD && from_initiator && !c->own_node != !(c->entry.flags & ENTRY_HOST);',
        'return 0;',
      ),
    ],
  },
  {
    rule: 'ARP claims the own address',
    file: CONFORMANCE,
    test: 'ARP asks and answers for the own address, with the own MAC',
    faults: [
      inPrograms(
        'neighbour.h',
        'return is_own(c, &p->source) ? REASON_NONE : REASON_SPOOFED_NEIGHBOUR;',
        'return REASON_NONE;',
      ),
    ],
  },
  {
    rule: 'Neighbour discovery is in the own name, and does not leave the link',
    file: CONFORMANCE,
    test: 'neighbour discovery is not judged, so it does not leave the link',
    faults: [inPrograms('neighbour.h', 'if (!stays_here(c, &p->destination))', 'if (0)')],
  },
  {
    rule: 'A pod sends no multicast',
    file: CONFORMANCE,
    test: 'a pod sends no multicast and no broadcast',
    faults: [
      inPrograms(
        'moat.bpf.c',
        'if (is_group(&c->packet.destination) || (c->hook == HOOK_FROM_POD && (c->ethernet[0] & 1)))',
        'if (0)',
      ),
    ],
  },
  {
    rule: 'No multicast reaches a pod',
    file: WIRE_ATTACKS,
    test: 'what is sent to groups at the pod’s own link does not arrive, and does without the hook',
    faults: [
      inPrograms(
        'moat.bpf.c',
        'return REASON_MULTICAST;',
        'return c->hook == HOOK_FROM_POD ? REASON_MULTICAST : REASON_NONE;',
      ),
    ],
  },
  {
    rule: 'No mark goes along past the stack into a pod',
    file: MARKS,
    test: 'is cleared where packets go past the stack into a pod, of new flows and of open ones',
    faults: [inPrograms('deliver.h', 'skb->mark = 0;', ''), inPrograms('hit.h', 'skb->mark = 0;', '')],
  },
];

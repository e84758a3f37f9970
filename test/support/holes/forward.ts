// Clients outside at backends of other nodes: their rules, and faults that break them.
import { type Hole, inPrograms } from './fault.ts';

const FORWARD = 'src/datapath/ebpf/forward.test.ts';

export const FORWARDED: readonly Hole[] = [
  {
    rule: 'A client outside reaches a backend of another node as the node that it asked',
    file: FORWARD,
    test: "goes to the backend as the node's, and back as the Service's",
    faults: [inPrograms('service.h', '(c->forward && change_asker(skb, c))', '0')],
  },
  {
    rule: 'and hears it as the Service',
    file: FORWARD,
    test: "goes to the backend as the node's, and back as the Service's",
    faults: [inPrograms('forward.h', 'if (translate_back(skb, c))', 'if (0)')],
  },
  {
    rule: 'and nobody else by its port',
    file: FORWARD,
    test: 'only that backend answers, from that port, and to that one',
    faults: [inPrograms('translation.h', 'flow->verdict[LEG_EGRESS] == VERDICT_ELSEWHERE', '1')],
  },
  {
    rule: 'Each client has a port of its own at a backend',
    file: FORWARD,
    test: 'each client has a port of its own, and who finds none is dropped',
    faults: [
      inPrograms(
        'translation.h',
        'is_asker(flow, client, side & 1 ? meant->port[1] : meant->port[0])',
        '(is_asker(flow, client, 0) || 1)',
      ),
      inPrograms('self.h', '(hash + i) % SELF_PORT_COUNT', '(hash + i) * 0'),
    ],
  },
  {
    rule: 'A backend begins nothing by it',
    file: FORWARD,
    test: 'what is no first packet, of no connection, is not sent on',
    faults: [inPrograms('forward.h', 'p->ttl <= 1 || is_syn(p)', 'p->ttl <= 1')],
  },
  {
    rule: 'What can’t go past the stack is not reset by the node',
    file: FORWARD,
    test: "what can't go past the stack is dropped both ways, and the node resets nothing",
    faults: [inPrograms('outside.h', 'if (find_forwarded(c))', 'if (0)')],
  },
  {
    rule: 'A connection stays with its backend, whoever begins it anew',
    file: FORWARD,
    test: 'a connection stays with its backend; datagrams and what begins go elsewhere',
    faults: [inPrograms('service.h', 'if (c->translation.self_port)\n\t\treturn 1;', '')],
  },
  {
    rule: 'Nobody is spoken for who can’t be answered by the uplink that he asks by',
    file: FORWARD,
    test: 'nobody speaks for a pod of this node, for the node, or for who is elsewhere than he says',
    faults: [inPrograms('forward.h', '!is_reached(skb, c)', '0')],
  },
  {
    rule: 'Who asked is known over a change of layouts',
    file: 'src/datapath/ebpf/upgrade-forward.test.ts',
    test: 'go on at every moment of a change of layouts',
    faults: [inPrograms('earlier.h', 'if (entry->verdict[LEG_EGRESS] == VERDICT_ELSEWHERE)', 'if (0)')],
  },
  {
    rule: 'and as whom he is asked for',
    file: 'src/datapath/ebpf/upgrade-forward.test.ts',
    test: 'go on at every moment of a change of layouts',
    faults: [inPrograms('carry.h', 'if (is_elsewhere(flow))', 'if (0)')],
  },
];

// A pod that its Service sends back to itself: its rules, and faults that break them.
import { type Hole, inPrograms } from './fault.ts';

const CONFORMANCE = 'src/datapath/ebpf/conformance.test.ts';

export const HAIRPIN: readonly Hole[] = [
  {
    rule: 'A pod whose Service sends it back to itself hears somebody from elsewhere',
    file: CONFORMANCE,
    test: 'a pod that is its Service’s backend hears itself from elsewhere, and answers as the Service',
    faults: [inPrograms('service.h', '(c->hairpin && put_alias(skb, c))', '0')],
  },
  {
    rule: 'also when the connection is open',
    file: CONFORMANCE,
    test: 'a pod that is its Service’s backend hears itself from elsewhere, and answers as the Service',
    faults: [
      inPrograms('hit.h', 'equal_words(c->translation.address, side ? g->key.address[1] : g->key.address[0])', '0'),
    ],
  },
  {
    rule: 'and answers there, as the Service',
    file: CONFORMANCE,
    test: 'a pod that is its Service’s backend hears itself from elsewhere, and answers as the Service',
    faults: [inPrograms('service.h', 'return c->alias.family ? lift_alias(skb, c) : 0;', 'return 0;')],
  },
  {
    rule: 'whatever policy says',
    file: CONFORMANCE,
    test: 'it may always ask itself, whatever policy says, and says next',
    faults: [inPrograms('legs.h', 'if (c->hairpin)\n\t\treturn allow_legs(c);', '')],
  },
  {
    rule: 'but not where it can’t come back',
    file: CONFORMANCE,
    test: 'what can’t come back past the stack, or by one port for both, goes to another backend, or to none',
    faults: [inPrograms('hairpin.h', 'c->packet.source_port != c->translation.port', '1')],
  },
  {
    rule: 'Nothing else goes there',
    file: CONFORMANCE,
    test: 'from elsewhere nobody else speaks, and to there none but what was asked from there',
    faults: [inPrograms('flow.h', 'c->side != c->entry.initiator && ', '')],
  },
  {
    rule: 'and nobody comes from there',
    file: CONFORMANCE,
    test: 'from elsewhere nobody else speaks, and to there none but what was asked from there',
    faults: [inPrograms('address.h', 'if (is_hairpin(a))\n\t\treturn 1;', '')],
  },
  {
    rule: 'What a pod sends to its own address is of no such flow',
    file: CONFORMANCE,
    test: 'what it sends to its own address, and what it says of its own answers, is of no such flow',
    faults: [inPrograms('hit.h', 'equal_words(c->glance.key.address[0], c->glance.key.address[1])', '0')],
  },
  {
    rule: 'nor is an error about it',
    file: CONFORMANCE,
    test: 'what it sends to its own address, and what it says of its own answers, is of no such flow',
    faults: [inPrograms('related.h', 'if (equal_words(c->key.address[0], c->key.address[1]))', 'if (0)')],
  },
  {
    rule: 'nor is what others’ Services answer next',
    file: CONFORMANCE,
    test: 'who asks itself changes nothing for others whose packets come next',
    faults: [inPrograms('hit.h', 'c->alias.family = 0;', '')],
  },
  {
    rule: 'Answers are the Service’s, also while another CPU moves their flow',
    file: 'src/datapath/ebpf/answers-anew.test.ts',
    test: 'all the same',
    faults: [
      inPrograms(
        'flow.h',
        'c->back = is_answer(c, from_initiator);',
        'c->back = !anew && is_answer(c, from_initiator);',
      ),
    ],
  },
];

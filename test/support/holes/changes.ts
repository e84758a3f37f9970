// What packets meet while tables change, and what outlives a process.
import { type Hole, inPrograms, inSources } from './fault.ts';

const CONFORMANCE = 'src/datapath/ebpf/conformance.test.ts';
const FLOW = 'src/datapath/ebpf/flow.test.ts';
const ENCODE = 'src/datapath/ebpf/encode/encode.test.ts';
const MOMENTS = 'src/datapath/ebpf/moments.test.ts';

export const CHANGES: readonly Hole[] = [
  {
    rule: 'An endpoint with another policy set has another epoch',
    file: CONFORMANCE,
    test: 'an endpoint that moves to another policy set takes its open flows along',
    faults: [
      inPrograms('conntrack.h', 'if (judged < owner->epoch || ', 'if ('),
      inPrograms('hit.h', ' || epoch < end.record->epoch)', ')'),
    ],
  },
  {
    rule: 'A set whose rules change has another epoch',
    file: FLOW,
    test: 'judges flows again when their set’s epoch passes',
    faults: [
      inPrograms('conntrack.h', 'if (!changed || judged < *(volatile __u64 *)changed)', 'if (!changed)'),
      inPrograms('hit.h', 'if (!changed || epoch < *(volatile __u64 *)changed)', 'if (!changed)'),
    ],
  },
  {
    rule: 'An address that becomes another has another peer epoch',
    file: CONFORMANCE,
    test: 'a peer that becomes another under an open flow is judged as what it is now',
    faults: [
      inPrograms('conntrack.h', 'return changed && judged >= *(volatile __u64 *)changed;', 'return changed != 0;'),
      inPrograms(
        'hit.h',
        'end.follows = changed && epoch >= *(volatile __u64 *)changed;',
        'end.follows = changed != 0;',
      ),
    ],
  },
  {
    rule: 'A verdict is as old as the tables that it was read from',
    file: MOMENTS,
    test: 'let through no more than the one packet that was judged before',
    faults: [
      inPrograms(
        'legs.h',
        '\tc->entry.leg[leg].epoch = c->epoch;',
        '\tstruct state *state = node_state();\n\n\tc->entry.leg[leg].epoch = state ? *(volatile __u64 *)&state->epoch : 0;',
      ),
    ],
  },
  {
    rule: 'A class that is missed while classes change is looked up again',
    file: MOMENTS,
    test: 'have a class looked up again that was missed',
    faults: [inPrograms('policy.h', 'if (missed++ || is_quiet(q->changes))', 'if (missed++ || 1)')],
  },
  {
    rule: 'A class is told from another key’s in its element by its tag',
    file: MOMENTS,
    test: 'give nobody the class of another key',
    faults: [
      inPrograms('policy.h', 'if (found.tag == class_tag(key.layer, key.identity))', 'if (found.tag | key.layer)'),
    ],
  },
  {
    rule: 'The counter of epochs goes up after everything else',
    file: ENCODE,
    test: 'bumps the counter after everything else of a call',
    faults: [
      inSources(
        'datapath/ebpf/encode/encoder.ts',
        'const dying = findDying(steps);',
        "const dying = findDying(steps);\n    this.#epoch += 1n;\n    this.#sink.state('epoch', this.#epoch);\n    this.#epoch -= 1n;",
      ),
    ],
  },
  {
    rule: 'What packets under way may ask for goes after two grace periods',
    file: ENCODE,
    test: 'keeps the classes of an identity that goes until packets under way are through',
    faults: [inSources('datapath/ebpf/encode/space.ts', 'this.#waiting.push(action);', 'action();')],
  },
  {
    rule: 'What is pointed at comes before what points at it, and goes after it',
    file: 'src/compile/increment.test.ts',
    test: 'the steps of a history, one by one, never point at nothing and make the Plan',
    faults: [inSources('compile/step-order.ts', '  table: 1,\n  layer: 2,', '  table: 2,\n  layer: 1,')],
  },
  {
    rule: 'Classes come before the addresses that move to them',
    file: 'src/compile/increment.test.ts',
    test: 'while one event takes effect step by step, each leg has its old or its new verdict',
    faults: [inSources('compile/step-order.ts', '  class: 3,', '  class: 8,')],
  },
  {
    rule: 'Pointers never stand before what they point to in the kernel, and records do not change while one stands',
    file: ENCODE,
    test: 'never lets a pointer stand before what it points to, nor a record change while one stands',
    faults: [
      inSources(
        'datapath/ebpf/encode/tables.ts',
        "      sink.record('set_slots', set.slot, setBytes(layers));\n      sink.word('set_map', set.index, taggedWord(set.slot, set.index + 1));",
        "      sink.word('set_map', set.index, taggedWord(set.slot, set.index + 1));\n      sink.record('set_slots', set.slot, setBytes(layers));",
      ),
    ],
  },
  {
    rule: 'Open flows whose verdict changes are named',
    file: 'src/compile/increment.test.ts',
    test: 'an open flow whose verdict changes has its endpoint, its set or its peer named',
    faults: [
      inSources('compile/compiler.ts', "kind: 'epoch', sets, peers: changes.peers", "kind: 'epoch', sets, peers: []"),
    ],
  },
];

export const LIVES: readonly Hole[] = [
  {
    rule: 'Pins are in the host’s bpffs, or there are none',
    file: 'src/kernel/bpffs.test.ts',
    test: 'is refused on a bpffs that only this mount namespace sees',
    faults: [inSources('kernel/bpffs.ts', 'if (!isHostPath(BPFFS)) {', 'if (1 + 1 === 3) {')],
  },
  {
    rule: 'Numbers are never given out again',
    file: 'src/datapath/ebpf/upgrade.test.ts',
    test: 'gives out no number again: a new owner of an address inherits no connection',
    faults: [
      inSources('datapath/ebpf/encode/encoder.ts', 'this.#generation = start.generation;', 'this.#generation = 0;'),
    ],
  },
  {
    rule: 'Until connections are carried over, they are looked for in the tables of before',
    file: 'src/datapath/ebpf/upgrade.test.ts',
    test: 'looks for connections in the tables of before until they are carried over',
    faults: [inPrograms('conntrack.h', 'int there = earlier ? find_earlier(c) : 0;', 'int there = 0;')],
  },
  {
    rule: 'Hooks are the first in their chain',
    file: 'src/datapath/ebpf/hooks.test.ts',
    test: 'gets ahead again of a program that lets everything pass',
    faults: [inSources('datapath/ebpf/tcx-hooks.ts', "at === 0 ? 'first' : 'behind'", "'first'")],
  },
];

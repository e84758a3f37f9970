// What evidence proves: an answer, a drop event with silence, or nothing at all.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FlowEvent, NamedRule } from '#agent/protocol.ts';
import type { Action, RuleId } from '#policy/model.ts';
import { type Evidence, judgeEvidence, SILENCE_MS } from './probe-judge.ts';

function rule(id: string, action: Action): NamedRule {
  return { number: 1, id: id as RuleId, action, places: [], more: 0 };
}

const EVENT: FlowEvent = {
  ...{ node: 'one', kind: 'new', hook: 'from-pod', reason: 'none', leg: null, egress: null, ingress: null },
  ...{ sourcePod: null, destinationPod: null },
  ...{ source: '10.0.0.1', destination: '10.0.0.2', protocol: 6, sourcePort: 20000, destinationPort: 80 },
  ...{ count: 1, timeNs: '1' },
};
const OPENED: FlowEvent = { ...EVENT, egress: rule('out', 'allow') };
const DENIED: FlowEvent = {
  ...EVENT,
  ...{ node: 'two', kind: 'drop', hook: 'to-pod', reason: 'policy', leg: 'ingress', ingress: rule('in', 'deny') },
};
const BASE: Evidence = {
  outcome: { kind: 'silent' },
  events: [],
  egressNode: 'one',
  ingressNode: 'two',
  elapsedMs: SILENCE_MS,
};

/** The verdict or kind of judgement, and the two rules where it is proved. */
function check(name: string, change: Partial<Evidence>, expected: string): void {
  test(name, () => {
    const judged = judgeEvidence({ ...BASE, ...change });
    const rules = judged.kind === 'proved' ? ` ${judged.egress?.id ?? '-'} ${judged.ingress?.id ?? '-'}` : '';
    assert.equal(`${judged.kind === 'proved' ? judged.verdict : judged.kind}${rules}`, expected);
  });
}

const echoed = { outcome: { kind: 'echoed' } } as const;
const refused = { outcome: { kind: 'failed', code: 'ECONNREFUSED' } } as const;
const both = [OPENED, { ...EVENT, node: 'two' }];

check('an answer with an event from each node is an allow', { ...echoed, events: both }, 'allow out -');
check('an answer without the event of the other node is not proved yet', { ...echoed, events: [OPENED] }, 'missing');
check(
  'an answer between ends that nobody judges is an allow',
  { ...echoed, egressNode: null, ingressNode: null },
  'allow - -',
);
check('an answer after a drop event contradicts itself', { ...echoed, events: [OPENED, DENIED] }, 'contradiction');
check('silence with the drop event is a deny', { events: [OPENED, DENIED] }, 'deny out in');
check('silence without any event is not proved', {}, 'missing');
check('silence with only the event of a new connection is not proved', { events: [OPENED] }, 'missing');
check('a drop event is no deny before a moment of silence', { events: [OPENED, DENIED], elapsedMs: 1 }, 'missing');
check('a drop at the destination alone does not tell what the source decided', { events: [DENIED] }, 'missing');
check('a refusal without an event is not proved', refused, 'missing');
check('a refusal after a silent drop contradicts it', { ...refused, events: [OPENED, DENIED] }, 'contradiction');
check(
  'a refusal that a reject rule explains is a reject',
  { ...refused, events: [OPENED, { ...DENIED, ingress: rule('in', 'reject') }] },
  'reject out in',
);
check(
  'silence where a rule rejects is not proved',
  { events: [OPENED, { ...DENIED, ingress: rule('in', 'reject') }] },
  'missing',
);
check(
  'a drop for another reason than policy is no verdict',
  { events: [OPENED, { ...DENIED, reason: 'malformed' }] },
  'contradiction',
);
check('a drop that names no rule is no verdict', { events: [OPENED, { ...DENIED, ingress: null }] }, 'contradiction');
check(
  'an egress denial needs nothing of the destination',
  { events: [{ ...DENIED, node: 'one', leg: 'egress', egress: rule('out', 'deny') }] },
  'deny out -',
);

test('an answer to what would have been dropped is an allow by audit, and the first leg that denies is named', () => {
  const audited = (leg: 'egress' | 'ingress', node: string): FlowEvent => ({
    ...{ ...EVENT, node, kind: 'audit', reason: 'policy', leg },
    ...(leg === 'egress' ? { egress: rule('out', 'deny') } : { ingress: rule('in', 'deny') }),
  });
  const judge = (...events: FlowEvent[]): unknown => {
    const judged = judgeEvidence({ ...BASE, ...echoed, events });
    return judged.kind === 'proved' ? [judged.verdict, judged.audited, judged.decidedBy] : judged.kind;
  };
  assert.deepEqual(judge(OPENED, audited('ingress', 'two')), ['allow', 'ingress', null]);
  assert.deepEqual(judge(audited('ingress', 'two'), audited('egress', 'one')), ['allow', 'egress', null]);
  assert.deepEqual(judge(...both), ['allow', null, null]);
  assert.equal(judge(audited('egress', 'one')), 'missing');
});

// The report of an e2e run against the table of exceptions: what passes for good, and what must be noticed.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Exception, judge, specsOf } from './judge.ts';

/** A test as Ginkgo reports it. */
function reported(text: string, State: string, Message?: string, LeafNodeType = 'It'): unknown {
  const failure = Message === undefined ? {} : { Failure: { Message } };
  const ContainerHierarchyTexts = LeafNodeType === 'It' ? ['[sig-network] Services'] : null;
  return { ContainerHierarchyTexts, LeafNodeText: text, LeafNodeType, State, RunTime: 2e9, ...failure };
}

const FOCUS = /^\[sig-network\]/;
const HAIRPIN: Exception = { test: 'hairpin', state: 'failed', reason: 'not built' };
const SSH: Exception = { test: 'restarting', state: 'skipped', reason: 'needs ssh' };

test('tests out of focus are none; those that skip themselves, or were left out, are', () => {
  const report = [
    {
      SpecReports: [
        reported('works', 'passed'),
        reported('speaks SCTP', 'skipped'),
        { ...(reported('is of another focus', 'skipped') as object), ContainerHierarchyTexts: ['[sig-node]'] },
        reported('restarting', 'skipped', 'Only supported for providers [gce]\nmore'),
        reported('', 'passed', undefined, 'SynchronizedBeforeSuite'),
      ],
    },
    { SpecReports: null },
  ];
  assert.deepEqual(specsOf(report, FOCUS), [
    { name: '[sig-network] Services works', state: 'passed', reason: '', seconds: 2 },
    { name: '[sig-network] Services speaks SCTP', state: 'not run', reason: '', seconds: 2 },
    {
      name: '[sig-network] Services restarting',
      state: 'skipped',
      reason: 'Only supported for providers [gce]',
      seconds: 2,
    },
  ]);
});

test('whatever did not pass is a failure, that of a step before all tests too', () => {
  const states = ['failed', 'panicked', 'timedout', 'interrupted', 'aborted', 'pending'];
  const report = [
    {
      SpecReports: [
        ...states.map((state) => reported(state, state, 'why')),
        reported('', 'failed', 'no nodes', 'SynchronizedBeforeSuite'),
      ],
    },
  ];
  const { passed, problems } = judge(specsOf(report, FOCUS), [], true);
  assert.deepEqual(passed, []);
  assert.deepEqual(problems, [
    ...states.map((state) => `failed: [sig-network] Services ${state}: why`),
    'failed: [SynchronizedBeforeSuite]: no nodes',
  ]);
});

test('what ends as the table says is excepted', () => {
  const report = [{ SpecReports: [reported('can hairpin', 'failed', 'no'), reported('restarting', 'skipped', 'ssh')] }];
  const { excepted, problems } = judge(specsOf(report, FOCUS), [HAIRPIN, SSH], true);
  assert.deepEqual(
    excepted.map(({ exception }) => exception),
    [HAIRPIN, SSH],
  );
  assert.deepEqual(problems, []);
});

test('one that passes by chance may pass or end as the table says, and not otherwise', () => {
  const LUCKY: Exception = { test: 'lucky', state: 'failed', reason: 'asks another node, or its own', mayPass: true };
  const report = [
    {
      SpecReports: [
        reported('lucky by http', 'passed'),
        reported('lucky by udp', 'failed'),
        reported('lucky', 'skipped', 'no'),
      ],
    },
  ];
  const { passed, excepted, problems } = judge(specsOf(report, FOCUS), [LUCKY], true);
  assert.equal(passed.length, 1);
  assert.deepEqual(
    excepted.map(({ name }) => name),
    ['[sig-network] Services lucky by udp'],
  );
  assert.deepEqual(problems, ['skipped: [sig-network] Services lucky: no']);
});

test('an exception that passes, ends otherwise, or that no test has, is a problem', () => {
  const report = [{ SpecReports: [reported('can hairpin', 'passed'), reported('restarting', 'failed', 'broken')] }];
  const unknown: Exception = { test: 'gone', state: 'failed', reason: 'renamed' };
  const { excepted, problems } = judge(specsOf(report, FOCUS), [HAIRPIN, SSH, unknown], true);
  assert.deepEqual(excepted, []);
  assert.deepEqual(problems, [
    'passes, and is in the table of exceptions: [sig-network] Services can hairpin',
    'failed: [sig-network] Services restarting: broken',
    'of the table, but no test that ran: gone',
  ]);
  assert.equal(judge(specsOf(report, FOCUS), [unknown], false).problems.length, 1, 'only a whole run misses one');
});

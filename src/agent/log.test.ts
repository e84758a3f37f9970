// Lines of the log: both formats, levels, and how many of a kind there are.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Log, type LogOptions } from './log.ts';

function logAt(options: LogOptions): { log: Log; lines: string[]; pass: (ms: number) => void } {
  let nowMs = Date.UTC(2026, 0, 2);
  const lines: string[] = [];
  const log = new Log(options, { write: (line) => void lines.push(line), nowMs: () => nowMs });
  return { log, lines, pass: (ms) => (nowMs += ms) };
}

test('text is the message; JSON has the fields, on one line whatever they hold', () => {
  const text = logAt({ format: 'text', level: 'info' });
  text.log.say('warn', 'source', 'Pod: followed again', { kind: 'Pod' });
  assert.deepEqual(text.lines, ['Pod: followed again']);
  const json = logAt({ format: 'json', level: 'info' });
  json.log.say('warn', 'source', 'a\nb', { kind: '"\r\n' });
  assert.equal(json.lines[0]?.includes('\n'), false);
  assert.deepEqual(JSON.parse(json.lines[0] ?? ''), {
    ...{ time: '2026-01-02T00:00:00.000Z', level: 'warn', event: 'source', message: 'a\nb', kind: '"\r\n' },
  });
});

test('a level leaves out what is less urgent', () => {
  const { log, lines } = logAt({ format: 'text', level: 'warn' });
  for (const level of ['error', 'warn', 'info', 'debug'] as const) log.say(level, 'problem', level);
  assert.deepEqual(lines, ['error', 'warn']);
  assert.equal(log.leftOut, 0);
});

test('a flood of one kind is cut, counted and told, and keeps no other kind out', () => {
  const { log, lines, pass } = logAt({ format: 'json', level: 'info' });
  for (let index = 0; index < 1000; index++) log.say('info', 'denied', `flow ${index}`);
  assert.deepEqual([lines.length, log.leftOut], [100, 900]);
  log.say('warn', 'problem', 'another');
  assert.equal(lines.length, 101);
  pass(1000);
  for (let index = 0; index < 1000; index++) log.say('info', 'denied', `later ${index}`);
  const later = lines.slice(101).map((line) => JSON.parse(line));
  assert.equal(later.length, 11);
  assert.deepEqual([later[0].leftOut, later[1].message], [900, 'later 0']);
  pass(-3_600_000);
  log.say('info', 'denied', 'a clock that was set back fills nothing');
  assert.equal(lines.length, 112);
});

// The square of marks as text: fits the terminal, groups what is many, and loses nothing.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { matrixText, type Tried } from './matrix.ts';

function allPairs(names: readonly string[], verdict: (from: string, to: string) => Tried['verdict']): readonly Tried[] {
  return names.flatMap((from) =>
    names.filter((to) => to !== from).map((to) => ({ from, to, verdict: verdict(from, to) })),
  );
}

const pods = (count: number): readonly string[] => Array.from({ length: count }, (_, i) => `shop/app-${i % 5}-${i}`);
const workload = (pod: string): string => pod.replace(/-\d+$/, '');

test('three ends make a square of three', () => {
  const tried = allPairs(['a', 'b', 'c'], (from, to) => (from === 'a' && to === 'c' ? 'deny' : 'allow'));
  const text = matrixText(tried, { width: 80, groupOf: (end) => end });
  assert.deepEqual(text.split('\n'), ['     1 2 3', '1 a  · ✔ ✘', '2 b  ✔ · ✔', '3 c  ✔ ✔ ·']);
});

test('what passes by audit alone has a sign of its own, and beside another verdict of its group the one for both', () => {
  const tried = allPairs(['a', 'b', 'c'], () => 'allow').map((one): Tried => {
    return one.from === 'a' && one.to !== 'a' ? { ...one, audited: 'ingress' } : one;
  });
  const text = matrixText(tried, { width: 80, groupOf: (end) => end });
  assert.deepEqual(text.split('\n'), ['     1 2 3', '1 a  · ▲ ▲', '2 b  ✔ · ✔', '3 c  ✔ ✔ ·']);
  const twice = [{ from: 'a', to: 'b', verdict: 'deny' }, ...tried] as const;
  assert.match(matrixText(twice, { width: 80, groupOf: (end) => end }), /^1 a {2}· ◐ ▲$/m);
});

test('every width is kept, whatever the number and length of names', () => {
  for (const width of [40, 80, 200]) {
    for (const count of [2, 9, 10, 27, 28, 99, 101, 130]) {
      const names = pods(count).map((name, i) => (i === 3 ? `${'x'.repeat(63)}/${'y'.repeat(100)}` : name));
      const text = matrixText(
        allPairs(names, () => 'deny'),
        { width, groupOf: (end) => end },
      );
      const longest = Math.max(...text.split('\n').map((line) => line.length));
      assert.ok(longest <= width, `${count} names in ${width} columns: ${longest}`);
      const rows = text.split('\n').filter((line) => line.includes('✘'));
      assert.ok(rows.length >= count, 'a row for each');
      assert.equal(text.split('✘').length - 1, count * (count - 1), 'a mark for each pair');
    }
  }
});

test('pods that do not fit are grouped by workload, and what differs inside a group says so', () => {
  const denied = (from: string, to: string) =>
    from === 'shop/app-0-0' && to.startsWith('shop/app-1') ? 'deny' : 'allow';
  const text = matrixText(allPairs(pods(50), denied), { width: 80, groupOf: workload });
  const rows = text.split('\n').slice(1);
  assert.equal(rows.length, 5);
  assert.match(rows[0] ?? '', /^1 shop\/app-0 +✔ ◐ ✔ ✔ ✔$/);
});

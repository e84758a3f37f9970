// What label selectors match. Written apart from policy/selector.ts, which the oracle uses.
import type { LabelSelector, Labels, Requirement } from '#policy/selector.ts';
import { hashNumber, hashText } from './hash.ts';
import type { Keyed } from './shared.ts';

/** True where the labels meet the selector. */
export type LabelTest = (labels: Labels) => boolean;

/** A selector as a test that can be run many times. */
export function labelTest(selector: LabelSelector): LabelTest {
  const tests = selector.requirements.map(requirementTest);
  const [only] = tests;
  if (only === undefined) return () => true;
  if (tests.length === 1) return only;
  return (labels) => {
    for (const test of tests) if (!test(labels)) return false;
    return true;
  };
}

function requirementTest(requirement: Requirement): LabelTest {
  const values = valuesOf(requirement);
  const [only] = values;
  if (values.size === 1 && only !== undefined) return valueTest(requirement, only);
  return valuesTest(requirement, values);
}

/** There are thousands of these: they hold two texts, and no more. */
function valueTest({ op, key }: Requirement, value: string): LabelTest {
  if (op === 'In') return (labels) => Object.hasOwn(labels, key) && labels[key] === value;
  return (labels) => !Object.hasOwn(labels, key) || labels[key] !== value;
}

function valuesTest(requirement: Requirement, values: ReadonlySet<string>): LabelTest {
  const { key } = requirement;
  switch (requirement.op) {
    case 'Exists':
      return (labels) => Object.hasOwn(labels, key);
    case 'DoesNotExist':
      return (labels) => !Object.hasOwn(labels, key);
    case 'In':
      return (labels) => Object.hasOwn(labels, key) && values.has(labels[key] ?? '');
    case 'NotIn':
      return (labels) => !Object.hasOwn(labels, key) || !values.has(labels[key] ?? '');
  }
}

function valuesOf(requirement: Requirement): ReadonlySet<string> {
  return new Set(requirement.op === 'In' || requirement.op === 'NotIn' ? requirement.values : []);
}

const END_OF_KEY = 0x10000;

/** Labels by what they say, in whatever order. */
export const BY_LABELS: Keyed<Labels, Labels> = {
  hash: (labels) => {
    let hash = 0;
    for (const key in labels) if (Object.hasOwn(labels, key)) hash = (hash + hashPair(key, labels[key] ?? '')) | 0;
    return hash;
  },
  is: (labels, others) => {
    let count = 0;
    for (const key in labels) {
      if (!Object.hasOwn(labels, key)) continue;
      if (!Object.hasOwn(others, key) || labels[key] !== others[key]) return false;
      count++;
    }
    for (const key in others) if (Object.hasOwn(others, key)) count--;
    return count === 0;
  },
};

function hashPair(key: string, value: string): number {
  return hashText(value, hashNumber(END_OF_KEY, hashText(key)));
}

/** One bit of 32 for each label, by what it says: who lacks a bit lacks all labels that have it. */
export function pairsOf(labels: Labels): number {
  let bits = 0;
  for (const key in labels) if (Object.hasOwn(labels, key)) bits |= bitOf(key, labels[key] ?? '');
  return bits;
}

/** Labels that meet the selector have one of these bits, of those of `pairsOf`; null where any may. */
export function pairMask({ requirements }: LabelSelector): number | null {
  for (const requirement of requirements) {
    if (requirement.op !== 'In') continue;
    let mask = 0;
    for (const value of requirement.values) mask |= bitOf(requirement.key, value);
    return mask;
  }
  return null;
}

function bitOf(key: string, value: string): number {
  return 1 << (hashPair(key, value) & 31);
}

/** Text that is equal for equal label sets. */
export function labelsKey(labels: Labels): string {
  const keys = Object.keys(labels).sort();
  let text = '';
  for (const key of keys) text += `${quoted(key)}=${quoted(labels[key] ?? '')},`;
  return text;
}

/** Text that is equal for selectors with the same requirements, in whatever order. */
export function selectorKey(selector: LabelSelector): string {
  const parts = selector.requirements.map(requirementKey);
  return parts.length < 2 ? (parts[0] ?? '') : [...new Set(parts)].sort().join('');
}

function requirementKey(requirement: Requirement): string {
  const { op, key } = requirement;
  const values = 'values' in requirement ? requirement.values : [];
  const sorted = values.length < 2 ? values : [...new Set(values)].sort();
  return `${op} ${quoted(key)}${sorted.map(quoted).join('')};`;
}

/** Text by itself: nothing that follows or precedes can be taken for a part of it. */
export function quoted(text: string): string {
  return `${text.length}:${text}`;
}

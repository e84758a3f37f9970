// Small helpers on maps and lists.

/** The value of a key, made and kept where there is none. */
export function remember<Key, Value>(known: Map<Key, Value>, key: Key, make: (key: Key) => Value): Value {
  let value = known.get(key);
  if (value === undefined) {
    value = make(key);
    known.set(key, value);
  }
  return value;
}

/** An array that something is pushed to takes room for 17 at once. */
const SHORT = 8;

/** Adds a value to the list of a key. A short list is made anew, since most stay short; of a long one the array stays. */
export function push<Key, Value>(lists: Map<Key, Value[]>, key: Key, value: Value): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [value]);
  else if (list.length < SHORT) lists.set(key, [...list, value]);
  else list.push(value);
}

/** Ascending, each number once; the list itself where it is so already. */
export function sortedSet(numbers: readonly number[]): readonly number[] {
  const isSorted = numbers.every((number, index) => index === 0 || number > (numbers[index - 1] ?? number));
  return isSorted ? numbers : [...new Set(numbers)].sort((a, b) => a - b);
}

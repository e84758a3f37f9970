// What selectors in use ask of labels. Of most label sets that is little: a hundred thousand pods, each with labels of
// its own, are a handful to those who look at `app` alone.
import type { LabelSelector, Labels } from '#policy/selector.ts';
import { remember } from './collect.ts';

/** How often something is asked for; its number is never another's. */
type Asked = { readonly number: number; uses: number };

/** Of one key: whether it is there, and whether it has one of these values. */
type AskedKey = { readonly presence: Asked; readonly values: Map<string, Asked> };

export class AskedLabels {
  readonly #keys = new Map<string, AskedKey>();
  #next = 1;

  add(selector: LabelSelector): void {
    for (const { key, values } of asksOf(selector)) {
      const asked = remember(this.#keys, key, () => ({ presence: this.#new(), values: new Map() }));
      if (values === null) asked.presence.uses++;
      else for (const value of values) remember(asked.values, value, () => this.#new()).uses++;
    }
  }

  remove(selector: LabelSelector): void {
    for (const { key, values } of asksOf(selector)) {
      const asked = this.#keys.get(key);
      if (asked === undefined) continue;
      if (values === null) asked.presence.uses--;
      for (const value of values ?? []) {
        const one = asked.values.get(value);
        if (one !== undefined && --one.uses === 0) asked.values.delete(value);
      }
      if (asked.presence.uses === 0 && asked.values.size === 0) this.#keys.delete(key);
    }
  }

  /** Text that is equal for labels that no selector in use tells apart. It holds until one comes or goes. */
  answers(labels: Labels): string {
    const found: number[] = [];
    for (const key in labels) {
      if (!Object.hasOwn(labels, key)) continue;
      const asked = this.#keys.get(key);
      if (asked === undefined) continue;
      const value = asked.values.get(labels[key] ?? '');
      if (value !== undefined) found.push(value.number);
      else if (asked.presence.uses > 0) found.push(asked.presence.number);
    }
    return found.sort((a, b) => a - b).join();
  }

  #new(): Asked {
    return { number: this.#next++, uses: 0 };
  }
}

/** What each requirement asks of a key: its value, or (null) whether it is there. */
function* asksOf({
  requirements,
}: LabelSelector): Generator<{ readonly key: string; readonly values: Set<string> | null }> {
  for (const requirement of requirements) {
    const values = 'values' in requirement ? new Set(requirement.values) : null;
    yield { key: requirement.key, values };
  }
}

// The names of rule numbers: what turns a number in a kernel event into a policy, a file and a line.
import type { RuleInfo, RuleNumber, Step } from '#compile/plan.ts';
import type { RuleId, Source } from '#policy/model.ts';
import type { NamedRule, Place } from './protocol.ts';

/** Rules that are gone keep their names for events still on their way; so many of them. */
const RETIRED_LIMIT = 16_384;

/** Follows the rules of a plan, step by step. */
export class RuleNames {
  readonly #live: Map<RuleNumber, RuleInfo> = new Map();
  readonly #retired: Map<RuleNumber, RuleInfo> = new Map();

  get size(): number {
    return this.#live.size;
  }

  follow(steps: readonly Step[]): void {
    for (const step of steps) {
      if (step.kind !== 'rule') continue;
      if (step.value === null) this.#retire(step.rule);
      else this.#live.set(step.rule, step.value);
    }
  }

  /** The rule with this number. A number that nobody gave out is named as such, not hidden. */
  name(number: RuleNumber): NamedRule {
    const info = this.#live.get(number) ?? this.#retired.get(number);
    if (info === undefined) return { number, id: `unknown-rule/${number}` as RuleId, action: null, places: [] };
    const sources = info.source === null ? info.policies : [info.source];
    return { number, id: info.id, action: info.action, places: sources.map(placeOf) };
  }

  #retire(number: RuleNumber): void {
    const info = this.#live.get(number);
    this.#live.delete(number);
    if (info === undefined) return;
    this.#retired.set(number, info);
    const oldest = this.#retired.keys().next();
    if (this.#retired.size > RETIRED_LIMIT && !oldest.done) this.#retired.delete(oldest.value);
  }
}

function placeOf(source: Source): Place {
  const name = source.namespace === '' ? source.name : `${source.namespace}/${source.name}`;
  return { object: `${source.kind} ${name}`, path: source.path, file: source.file, line: source.line };
}

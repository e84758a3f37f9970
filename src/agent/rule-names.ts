// The names of rule numbers: what turns a number in a kernel event into a policy, a file and a line.
import type { RuleInfo, RuleNumber, Step } from '#compile/plan.ts';
import type { RuleId, Source } from '#policy/model.ts';
import type { NamedRule, Place } from './protocol.ts';

/** Rules that are gone keep their names for events still on their way, as long as they are so many places in all. */
const RETIRED_PLACES = 4096;

/** A rule that is gone: a default deny is as many places as policies. */
type Retired = { readonly info: RuleInfo; readonly places: number };

/** Follows the rules of a plan, step by step. */
export class RuleNames {
  readonly #live: Map<RuleNumber, RuleInfo> = new Map();
  /** The oldest first. */
  readonly #retired: Map<RuleNumber, Retired> = new Map();
  #retiredPlaces = 0;

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
    const info = this.#live.get(number) ?? this.#retired.get(number)?.info;
    if (info === undefined) return { number, id: `unknown-rule/${number}` as RuleId, action: null, places: [] };
    return { number, id: info.id, action: info.action, places: sourcesOf(info).map(placeOf) };
  }

  #retire(number: RuleNumber): void {
    const info = this.#live.get(number);
    this.#live.delete(number);
    if (info === undefined) return;
    const places = sourcesOf(info).length;
    this.#retired.set(number, { info, places });
    this.#retiredPlaces += places;
    for (const [oldest, retired] of this.#retired) {
      if (this.#retiredPlaces <= RETIRED_PLACES) break;
      this.#retired.delete(oldest);
      this.#retiredPlaces -= retired.places;
    }
  }
}

function sourcesOf({ source, policies }: RuleInfo): readonly Source[] {
  return source === null ? policies : [source];
}

function placeOf(source: Source): Place {
  const name = source.namespace === '' ? source.name : `${source.namespace}/${source.name}`;
  return { object: `${source.kind} ${name}`, path: source.path, file: source.file, line: source.line };
}

// The names of rule numbers: what turns a number in a kernel event into a policy, a file and a line.
import type { RuleInfo, RuleNumber, Step } from '#compile/plan.ts';
import { MOST_NAMED, type RuleId, type Source } from '#policy/model.ts';
import type { NamedRule, Place } from './protocol.ts';

/** Rules that are gone keep their names for events still on their way, as long as they are so many places in all. */
const RETIRED_PLACES = 4096;

/** So many names are kept as they were told. */
const NAMED_KEPT = 1024;

/** A rule that is gone: a default deny is as many places as policies. */
type Retired = { readonly info: RuleInfo; readonly places: number };

/** Follows the rules of a plan, step by step. */
export class RuleNames {
  readonly #live: Map<RuleNumber, RuleInfo> = new Map();
  /** The oldest first. */
  readonly #retired: Map<RuleNumber, Retired> = new Map();
  #retiredPlaces = 0;
  /** Names as they were told: to sort ten thousand policies for each event would take longer than events do to come. */
  readonly #named: Map<RuleNumber, NamedRule> = new Map();

  get size(): number {
    return this.#live.size;
  }

  follow(steps: readonly Step[]): void {
    for (const step of steps) {
      if (step.kind !== 'rule') continue;
      this.#named.delete(step.rule);
      if (step.value === null) this.#retire(step.rule);
      else this.#live.set(step.rule, step.value);
    }
  }

  /** The rule with this number. A number that nobody gave out is named as such, not hidden. */
  name(number: RuleNumber): NamedRule {
    const known = this.#named.get(number);
    if (known !== undefined) return known;
    if (this.#named.size >= NAMED_KEPT) this.#named.clear();
    const named = this.#nameOf(number);
    this.#named.set(number, named);
    return named;
  }

  #nameOf(number: RuleNumber): NamedRule {
    const info = this.#live.get(number) ?? this.#retired.get(number)?.info;
    if (info === undefined)
      return { number, id: `unknown-rule/${number}` as RuleId, action: null, places: [], more: 0 };
    const sources = sourcesOf(info);
    const places = sources.slice(0, MOST_NAMED).map(placeOf);
    return { number, id: info.id, action: info.action, places, more: sources.length - places.length };
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
      this.#named.delete(oldest);
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

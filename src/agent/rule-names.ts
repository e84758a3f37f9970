// The names of rule numbers: what turns a number in a kernel event into a policy, a file and a line.
import type { RuleInfo, RuleNumber, Step } from '#compile/plan.ts';
import { MOST_NAMED, type RuleId, type Source } from '#policy/model.ts';
import type { NamedRule, Place } from './protocol.ts';

/** Rules that are gone keep their names for events still on their way, as long as they are so many places in all. */
const RETIRED_PLACES = 4096;
/**
 * Those that went so lately keep them as long as they are so many rules: the kernel counts equal drops for up to a second
 * before it tells of them, and is asked once a second.
 */
const LATE_MS = 5000;
const RETIRED_RULES = 4096;

/** So many names are kept as they were told. */
const NAMED_KEPT = 1024;

type Retired = { readonly info: RuleInfo; readonly atMs: number };

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

  /** `atMs`: now, on a clock that never goes back. */
  follow(steps: readonly Step[], atMs: number): void {
    for (const step of steps) {
      if (step.kind !== 'rule') continue;
      this.#named.delete(step.rule);
      if (step.value === null) this.#retire(step.rule, atMs);
      else this.#live.set(step.rule, step.value);
    }
    this.#forgetOldest(atMs);
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

  #retire(number: RuleNumber, atMs: number): void {
    const info = this.#live.get(number);
    this.#live.delete(number);
    if (info === undefined) return;
    this.#retired.set(number, { info, atMs });
    this.#retiredPlaces += info.places;
  }

  #forgetOldest(nowMs: number): void {
    for (const [oldest, { info, atMs }] of this.#retired) {
      const areMany = this.#retiredPlaces > RETIRED_PLACES && nowMs - atMs > LATE_MS;
      if (!areMany && this.#retired.size <= RETIRED_RULES) break;
      this.#retired.delete(oldest);
      this.#named.delete(oldest);
      this.#retiredPlaces -= info.places;
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

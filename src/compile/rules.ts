// Rule numbers: one for each rule of an active policy, and one for each default deny; in the Plan while a layer has it.
import { push } from '#identity/collect.ts';
import type { Direction, Policy, Rule, Source, Tier } from '#policy/model.ts';
import { compareText, defaultDenyId } from '#policy/model.ts';
import type { IsOwn } from './between.ts';
import type { RuleInfo, RuleNumber } from './plan.ts';
import type { Recorder } from './recorder.ts';
import type { SortedList } from './sorted-list.ts';

/** A policy that isolates an endpoint, as a default deny names it. `serial` stands for its key. */
export type Isolating = Pick<Policy, 'key' | 'tier' | 'source'> & {
  readonly serial: number;
  readonly place: { readonly key: number };
};

/** A default deny: which policies it names, as it knew them last. */
type Deny = { readonly key: string; isolating: SortedList<Isolating>; readonly entry: RuleEntry };

export type RuleEntry = { readonly number: RuleNumber; info: RuleInfo; uses: number };

const NO_POLICIES: readonly Source[] = [];
/** A policy of a namespace is about pods of that namespace alone. */
const OWN = { own: true } as const;

export class Rules {
  readonly #recorder: Recorder;
  /** Default denies by direction and a hash of the isolating policies. */
  readonly #denies = new Map<string, Deny[]>();
  readonly #denyOf = new Map<RuleEntry, Deny>();
  /** Of the rules that layers have, the denials that are not by policies of a namespace alone: far fewer than the rest. */
  readonly #others = new Set<RuleNumber>();
  #next = 1;

  constructor(recorder: Recorder) {
    this.#recorder = recorder;
  }

  /** A number for a policy's rule. */
  make(rule: Rule, direction: Direction): RuleEntry {
    return this.#enter(infoOf(rule, direction));
  }

  /** The same rule with another place in its file. */
  update(entry: RuleEntry, rule: Rule): void {
    this.#setInfo(entry, infoOf(rule, entry.info.direction));
  }

  /** The default deny of a tier, for endpoints that these policies isolate: one for the same policies. */
  defaultDeny(direction: Direction, tier: Tier, isolating: SortedList<Isolating>): RuleEntry {
    const key = `${direction} ${isolating.hash}`;
    const found = this.#denies.get(key)?.find((deny) => deny.isolating.equals(isolating, isSamePolicy));
    if (found === undefined) return this.#makeDeny(key, denyInfo(tier, direction, isolating), isolating);
    const isRenamed = !found.isolating.equals(isolating);
    found.isolating = isolating;
    if (isRenamed) this.#setInfo(found.entry, denyInfo(tier, direction, isolating));
    return found.entry;
  }

  #makeDeny(key: string, info: RuleInfo, isolating: SortedList<Isolating>): RuleEntry {
    const entry = this.#enter(info);
    const deny = { key, isolating, entry };
    push(this.#denies, key, deny);
    this.#denyOf.set(entry, deny);
    return entry;
  }

  /** One more layer has the rule. */
  take(entry: RuleEntry): void {
    entry.uses++;
    if (entry.uses > 1) return;
    this.#recorder.rule(entry.number, entry.info);
    if (isOthers(entry)) this.#others.add(entry.number);
  }

  /** Which denials are a namespace's own, among rules that layers have and these. */
  ownAmong(come: readonly RuleEntry[]): IsOwn {
    const others = new Set(come.filter(isOthers).map(({ number }) => number));
    return (rule) => !this.#others.has(rule) && !others.has(rule);
  }

  give(entry: RuleEntry): void {
    entry.uses--;
    if (entry.uses > 0) return;
    this.#recorder.rule(entry.number, null);
    this.#others.delete(entry.number);
    const deny = this.#denyOf.get(entry);
    if (deny === undefined) return;
    this.#denyOf.delete(entry);
    const others = (this.#denies.get(deny.key) ?? []).filter((one) => one !== deny);
    if (others.length === 0) this.#denies.delete(deny.key);
    else this.#denies.set(deny.key, others);
  }

  #enter(info: RuleInfo): RuleEntry {
    return { number: this.#next++, info, uses: 0 };
  }

  #setInfo(entry: RuleEntry, info: RuleInfo): void {
    entry.info = info;
    if (entry.uses > 0) this.#recorder.rule(entry.number, info);
  }
}

/**
 * The names of a thousand policies are put together for those who ask. Of the policies no more than that is held: the
 * name of a deny that is gone lives on, and must not keep all their rules.
 */
function denyInfo(tier: Tier, direction: Direction, isolating: SortedList<Isolating>): RuleInfo {
  return {
    ...(isolating.every(({ source }) => source.namespace !== '') ? OWN : {}),
    direction,
    action: 'deny',
    source: null,
    places: isolating.size,
    get id() {
      return defaultDenyId(tier, direction, [...isolating]);
    },
    get policies() {
      return [...isolating].sort((a, b) => compareText(a.key, b.key)).map((policy) => policy.source);
    },
  };
}

function isOthers({ info }: RuleEntry): boolean {
  return info.own !== true && (info.action === 'deny' || info.action === 'reject');
}

/** True where a deny names both alike: it names the tier as well. */
function isSamePolicy(one: Isolating, other: Isolating): boolean {
  return one.serial === other.serial && one.tier.name === other.tier.name;
}

function infoOf(rule: Rule, direction: Direction): RuleInfo {
  const own = rule.source.namespace === '' ? {} : OWN;
  return { id: rule.id, direction, action: rule.action, source: rule.source, policies: NO_POLICIES, places: 1, ...own };
}

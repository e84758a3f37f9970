// Rule numbers: one for each rule of an active policy, and one for each default deny; in the Plan while a layer has it.
import type { Direction, Policy, Rule, RuleId, Tier } from '#policy/model.ts';
import { compareText, defaultDenyId } from '#policy/model.ts';
import type { RuleInfo, RuleNumber } from './plan.ts';
import type { Recorder } from './recorder.ts';
import { hashOf, sameList } from './same.ts';

/** A policy that isolates an endpoint; `naming` is another number once its key, tier or source is another. */
export type Isolating = { readonly policy: Policy; readonly naming: number };

type Named = { readonly entry: RuleEntry; readonly namings: readonly number[] };

export type RuleEntry = { readonly number: RuleNumber; info: RuleInfo; uses: number };

export class Rules {
  readonly #recorder: Recorder;
  readonly #denies = new Map<RuleId, RuleEntry>();
  /** What was named last, by direction and a hash of the isolating policies. */
  readonly #named = new Map<string, Named>();
  /** The key of each default deny there. */
  readonly #keys = new Map<RuleEntry, string>();
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

  /** The default deny of a tier, for endpoints that these policies isolate. The same policies are named once. */
  defaultDeny(direction: Direction, tier: Tier, isolating: readonly Isolating[]): RuleEntry {
    const key = `${direction} ${hashOf(isolating, namingOf)}`;
    const known = this.#named.get(key);
    if (known !== undefined && sameList(isolating, known.namings, hasNaming)) return known.entry;
    const namings = isolating.map(namingOf);
    const sorted = isolating.map((one) => one.policy).sort((a, b) => compareText(a.key, b.key));
    const id = defaultDenyId(tier, direction, sorted);
    const policies = sorted.map((policy) => policy.source);
    const info: RuleInfo = { id, direction, action: 'deny', source: null, policies };
    const found = this.#denies.get(id);
    if (found !== undefined) this.#setInfo(found, info);
    const entry = found ?? this.#enter(info);
    this.#denies.set(id, entry);
    this.#forgetNaming(entry);
    this.#named.set(key, { entry, namings });
    this.#keys.set(entry, key);
    return entry;
  }

  /** One more layer has the rule. */
  take(entry: RuleEntry): void {
    entry.uses++;
    if (entry.uses === 1) this.#recorder.rule(entry.number, entry.info);
  }

  give(entry: RuleEntry): void {
    entry.uses--;
    if (entry.uses > 0) return;
    this.#recorder.rule(entry.number, null);
    if (this.#denies.get(entry.info.id) !== entry) return;
    this.#denies.delete(entry.info.id);
    this.#forgetNaming(entry);
  }

  #forgetNaming(entry: RuleEntry): void {
    const key = this.#keys.get(entry);
    if (key === undefined) return;
    this.#keys.delete(entry);
    if (this.#named.get(key)?.entry === entry) this.#named.delete(key);
  }

  #enter(info: RuleInfo): RuleEntry {
    return { number: this.#next++, info, uses: 0 };
  }

  #setInfo(entry: RuleEntry, info: RuleInfo): void {
    entry.info = info;
    if (entry.uses > 0) this.#recorder.rule(entry.number, info);
  }
}

function namingOf({ naming }: Isolating): number {
  return naming;
}

function hasNaming(one: Isolating, naming: number): boolean {
  return one.naming === naming;
}

function infoOf(rule: Rule, direction: Direction): RuleInfo {
  return { id: rule.id, direction, action: rule.action, source: rule.source, policies: [] };
}

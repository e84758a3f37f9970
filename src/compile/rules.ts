// Rule numbers: one for each rule of an active policy, and one for each default deny; in the Plan while a layer has it.
import { push } from '#identity/collect.ts';
import type { Direction, Policy, Rule, Tier } from '#policy/model.ts';
import { compareText, defaultDenyId } from '#policy/model.ts';
import type { RuleInfo, RuleNumber } from './plan.ts';
import type { Recorder } from './recorder.ts';
import { hashOf, sameList } from './same.ts';

/**
 * A policy that isolates an endpoint. `serial` stands for its key; `naming` is another number once its key, tier or
 * source is another.
 */
export type Isolating = { readonly policy: Policy; readonly serial: number; readonly naming: number };

/** A default deny: which policies it names, as it knew them last. */
type Deny = {
  readonly key: string;
  readonly serials: readonly number[];
  namings: readonly number[];
  readonly entry: RuleEntry;
};

export type RuleEntry = { readonly number: RuleNumber; info: RuleInfo; uses: number };

export class Rules {
  readonly #recorder: Recorder;
  /** Default denies by direction and a hash of the isolating policies. */
  readonly #denies = new Map<string, Deny[]>();
  readonly #denyOf = new Map<RuleEntry, Deny>();
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
  defaultDeny(direction: Direction, tier: Tier, isolating: readonly Isolating[]): RuleEntry {
    const key = `${direction} ${hashOf(isolating, serialOf)}`;
    const found = this.#denies.get(key)?.find(({ serials }) => sameList(isolating, serials, hasSerial));
    if (found === undefined) return this.#makeDeny(key, denyInfo(tier, direction, isolating), isolating);
    if (!sameList(isolating, found.namings, hasNaming)) {
      found.namings = isolating.map(namingOf);
      this.#setInfo(found.entry, denyInfo(tier, direction, isolating));
    }
    return found.entry;
  }

  #makeDeny(key: string, info: RuleInfo, isolating: readonly Isolating[]): RuleEntry {
    const entry = this.#enter(info);
    const deny = { key, serials: isolating.map(serialOf), namings: isolating.map(namingOf), entry };
    push(this.#denies, key, deny);
    this.#denyOf.set(entry, deny);
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
function denyInfo(tier: Tier, direction: Direction, isolating: readonly Isolating[]): RuleInfo {
  const policies = isolating.map(({ policy: { key, source } }) => ({ key, source }));
  return {
    direction,
    action: 'deny',
    source: null,
    get id() {
      return defaultDenyId(tier, direction, policies);
    },
    get policies() {
      return policies.toSorted((a, b) => compareText(a.key, b.key)).map((policy) => policy.source);
    },
  };
}

function serialOf({ serial }: Isolating): number {
  return serial;
}

function namingOf({ naming }: Isolating): number {
  return naming;
}

function hasSerial(one: Isolating, serial: number): boolean {
  return one.serial === serial;
}

function hasNaming(one: Isolating, naming: number): boolean {
  return one.naming === naming;
}

function infoOf(rule: Rule, direction: Direction): RuleInfo {
  return { id: rule.id, direction, action: rule.action, source: rule.source, policies: [] };
}

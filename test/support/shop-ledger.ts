// What the shop's pods count, held against what may be: of ways that are allowed, a connection stands and new ones succeed;
// of ways that are denied, new ones never do, not even by a refusal, which would come from the other pod.
import { setTimeout as pause } from 'node:timers/promises';
import { ALLOWED, DENIED, type ShopPod, shopPods, tell, type Way } from './shop-ways.ts';

/** TCP has sent a lost segment again four times by then. */
const LONGEST_MS = 6000;
/** All that was tried before a change has met its fate after it (TRY_LIMIT_MS of shop.c). */
const SETTLED_MS = 3000;
const SETTLE_LIMIT_MS = 60_000;

/** What one pod counts of one target: of the connection that stands there, and of new ones. */
type Count = {
  readonly state: string;
  readonly answers: number;
  readonly longestMs: number;
  readonly tries: number;
  readonly passed: number;
  readonly refused: number;
  readonly silent: number;
};

/** By the pod's name and the target. */
export type Counts = ReadonlyMap<string, Count>;

/** What is expected of all ways: `allowed` are open, `except` may be as they like, all others are shut. */
export type Expected = { readonly allowed?: readonly Way[]; readonly except?: readonly Way[] };

/** What was found between two looks. */
export type Audit = {
  readonly findings: readonly string[];
  /** Connections that stood, their answers, and the longest that any has waited for one since it began. */
  readonly standing: number;
  readonly answers: number;
  readonly longestMs: number;
  /** New connections that were allowed, and tries of denied ones. */
  readonly opened: number;
  readonly deniedTries: number;
};

/** One way between two pods. */
type Path = { readonly way: Way; readonly from: ShopPod; readonly to: ShopPod };

const NOTHING: Count = { state: 'none', answers: 0, longestMs: 0, tries: 0, passed: 0, refused: 0, silent: 0 };

export class Ledger {
  #pods: readonly ShopPod[] = [];
  /** What has been asked for already, by key. */
  readonly #begun = new Set<string>();
  /** Connections of these ways stand. */
  #standing: readonly Way[] = [];

  of(app: string): readonly ShopPod[] {
    return this.#pods.filter((pod) => pod.app === app);
  }

  /** Finds the pods that run now, and begins to try all ways between them, and to keep a connection on some. */
  async follow(standing: readonly Way[]): Promise<void> {
    this.#pods = await shopPods();
    this.#standing = standing;
    for (const pod of this.#pods) {
      await this.#begin(pod, 'talk', standing);
      await this.#begin(pod, 'try', [...ALLOWED, ...DENIED]);
    }
  }

  async #begin(pod: ShopPod, word: 'talk' | 'try', ways: readonly Way[]): Promise<void> {
    const words: string[] = [];
    for (const { way, from, to } of this.#paths(ways)) {
      const key = `${word} ${from.name} ${to.name} ${way[2]}`;
      if (from !== pod || this.#begun.has(key)) continue;
      this.#begun.add(key);
      words.push(...to.addresses.flatMap((address) => [address, String(way[2])]));
    }
    if (words.length > 0) await tell(pod, [word, ...words]);
  }

  async look(): Promise<Counts> {
    const reports = await Promise.all(this.#pods.map(async (pod) => [pod.name, await reportOf(pod)] as const));
    const counts = new Map<string, Count>();
    for (const [pod, report] of reports) {
      for (const line of report.split('\n')) if (line !== '') note(counts, pod, line);
    }
    return counts;
  }

  /** What happened between two looks, held against what was expected all the time. */
  audit(before: Counts, after: Counts, { allowed = ALLOWED, except = [] }: Expected = {}): Audit {
    const findings: string[] = [];
    const sum = { standing: 0, answers: 0, longestMs: 0, opened: 0, deniedTries: 0 };
    const judged = this.#paths([...ALLOWED, ...DENIED]).filter(({ way }) => !except.includes(way));
    for (const { way, from, to } of judged) {
      for (const address of to.addresses) {
        const key = `${from.name} ${targetText(address, way[2])}`;
        const now = after.get(key) ?? NOTHING;
        const grown = growth(before.get(key) ?? NOTHING, now);
        const stands = this.#standing.includes(way);
        const isAllowed = allowed.includes(way);
        const found = isAllowed ? [...judgeNew(grown), ...(stands ? judgeStanding(grown) : [])] : judgeDenied(grown);
        findings.push(...found.map((what) => `${from.name} to ${to.name}, ${targetText(address, way[2])}: ${what}`));
        if (!isAllowed) sum.deniedTries += grown.tries;
        else sum.opened += grown.passed;
        if (!isAllowed || !stands) continue;
        sum.standing += 1;
        sum.answers += grown.answers;
        sum.longestMs = Math.max(sum.longestMs, grown.longestMs);
      }
    }
    return { findings, ...sum };
  }

  /** Waits until all is so for SETTLED_MS; the last look. Throws with what is not. */
  async settled(expected: Expected = {}): Promise<Counts> {
    let findings: readonly string[] = [];
    for (const end = performance.now() + SETTLE_LIMIT_MS; performance.now() < end; ) {
      const before = await this.look();
      await pause(SETTLED_MS);
      const after = await this.look();
      ({ findings } = this.audit(before, after, expected));
      if (findings.length === 0) return after;
    }
    throw new Error(`not within ${SETTLE_LIMIT_MS} ms:\n${findings.join('\n')}`);
  }

  /** Between pods that run now; from none to itself. */
  #paths(ways: readonly Way[]): readonly Path[] {
    return ways.flatMap((way) =>
      this.of(way[0]).flatMap((from) => {
        const others = this.of(way[1]).filter((to) => to !== from);
        return others.map((to) => ({ way, from, to }));
      }),
    );
  }
}

function judgeNew(grown: Count): readonly string[] {
  return [
    ...(grown.passed < 1 ? ['no new connection'] : []),
    ...(grown.refused + grown.silent > 0 ? [`${grown.refused} refused, ${grown.silent} not answered`] : []),
  ];
}

function judgeStanding({ state, answers, longestMs }: Count): readonly string[] {
  return [
    ...(state === 'open' ? [] : [`the connection is ${state}`]),
    ...(answers < 1 ? ['the connection stands still'] : []),
    ...(longestMs > LONGEST_MS ? [`the connection stood still for ${longestMs} ms`] : []),
  ];
}

function judgeDenied({ tries, passed, refused }: Count): readonly string[] {
  return [
    ...(tries < 1 ? ['was not tried'] : []),
    ...(passed + refused > 0 ? [`opened ${passed} times, refused ${refused} times`] : []),
  ];
}

/** The state, and the longest wait, are what they are now. */
function growth(before: Count, now: Count): Count {
  return {
    ...now,
    answers: now.answers - before.answers,
    tries: now.tries - before.tries,
    passed: now.passed - before.passed,
    refused: now.refused - before.refused,
    silent: now.silent - before.silent,
  };
}

/** As shop.c writes them. */
function targetText(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

/** Empty where the pod is gone. */
async function reportOf(pod: ShopPod): Promise<string> {
  try {
    return await tell(pod, ['report']);
  } catch (error) {
    if (error instanceof Error && /not found|no such process/.test(error.message)) return '';
    throw error;
  }
}

/** Reads a line of a report. A target may have several, as one whose address another pod had: the last connection counts, and all tries. */
function note(counts: Map<string, Count>, pod: string, line: string): void {
  const [word, target, state = ''] = line.split(' ');
  const key = `${pod} ${target}`;
  const known = counts.get(key) ?? NOTHING;
  const value = (name: string): number => Number(new RegExp(`\\b${name}=(\\d+)`).exec(line)?.[1]);
  const told =
    word === 'talk'
      ? { state, answers: value('answers'), longestMs: value('longest_ms') }
      : {
          tries: known.tries + value('tries'),
          passed: known.passed + value('passed'),
          refused: known.refused + value('refused'),
          silent: known.silent + value('silent'),
        };
  counts.set(key, { ...known, ...told });
}

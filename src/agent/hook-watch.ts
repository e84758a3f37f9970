// What people are told of hooks that somebody took off, or got ahead of.
import type { HookRepair } from './node-state.ts';

/** The same is said of the same interface again only after this long. */
const SILENCE_MS = 10_000;

/** Turns repairs into sentences, and remembers what is still wrong. */
export class HookWatch {
  readonly #said: Map<number, { readonly text: string; readonly atMs: number }> = new Map();
  #complaint: string | null = null;
  #repaired = 0;

  /** What is wrong at this moment; null where every hook stands, and first. */
  get complaint(): string | null {
    return this.#complaint;
  }

  /** How often hooks were put back. */
  get repaired(): number {
    return this.#repaired;
  }

  /** Takes what one round of repairs found; returns what is to be said now. `nameOf` names an interface's pod. */
  note(repairs: readonly HookRepair[], nameOf: (interfaceIndex: number) => string, nowMs: number): readonly string[] {
    const lines = repairs.map((repair) => ({ ...repair, text: repairText(repair, nameOf(repair.interfaceIndex)) }));
    const bad = lines.filter(isBad);
    this.#complaint = bad.length === 0 ? null : bad.map((line) => line.text).join('; ');
    this.#repaired += lines.length - bad.length;
    for (const [index, { atMs }] of this.#said) if (nowMs - atMs >= SILENCE_MS) this.#said.delete(index);
    return lines.filter((line) => this.#isNews(line.interfaceIndex, line.text, nowMs)).map((line) => line.text);
  }

  #isNews(interfaceIndex: number, text: string, nowMs: number): boolean {
    const last = this.#said.get(interfaceIndex);
    if (last?.text === text) return false;
    this.#said.set(interfaceIndex, { text, atMs: nowMs });
    return true;
  }
}

function isBad(repair: HookRepair): boolean {
  return repair.failure !== null || repair.now !== 'first';
}

const FOUND = {
  absent: 'were taken off',
  behind: 'had another program ahead of them',
  unpinned: 'had lost their pins',
} as const;
const NOW = { first: 'in force', behind: 'behind another program', absent: 'not in force' } as const;

function repairText(repair: HookRepair, pod: string): string {
  const hooks = `the hooks of ${pod} (interface ${repair.interfaceIndex})`;
  if (!isBad(repair)) return `${hooks} ${FOUND[repair.found]}; they are put back, and first`;
  const why = repair.failure === null ? '' : `: ${repair.failure}`;
  return `${hooks} ${FOUND[repair.found]}, are ${NOW[repair.now]}, and can't be put back${why}`;
}

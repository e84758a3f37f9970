// The way out at three in the morning: for a time, what judging denies passes on this node. When it ends is a number in the
// kernel, which needs no agent for that; here it is asked for, and told until it is over.
import type { NodeState } from './node-state.ts';
import type { Observer } from './observer.ts';
import type { BypassAnswer, BypassRequest } from './protocol.ts';

/** It is said again this often. */
const REMIND_MS = 60_000;

export class Bypass {
  readonly #observer: Observer;
  readonly #node: string;
  /** As it was known last. */
  #isOn = false;
  #saidMs = 0;
  /** When it ends, by what was read last. */
  #endMs = 0;

  constructor(node: string, observer: Observer) {
    this.#node = node;
    this.#observer = observer;
  }

  /** Throws Error where it can't be said when it will end: there is nothing that could be written to. */
  ask(state: Pick<NodeState, 'bypassMs'> | null, { forMs, by }: BypassRequest): BypassAnswer {
    if (state === null) throw new Error('the kernel is not in hand now; a fresh start follows, ask again then');
    state.bypassMs = forMs;
    this.#isOn = forMs > 0;
    this.#saidMs = performance.now();
    this.#endMs = this.#saidMs + forMs;
    if (forMs > 0) this.#say('PolicyBypassed', `for ${timeText(forMs)}: ${PASSES}; asked for by ${by}`);
    else this.#say('PolicyBypassEnded', `ended by ${by}: ${ENFORCED}`);
    return { leftMs: state.bypassMs };
  }

  /** For how long it lasts yet, milliseconds; 0 = policy is enforced. The kernel goes on with it while nobody has that in hand. */
  leftMs(state: Pick<NodeState, 'bypassMs'> | null, nowMs: number): number {
    return state?.bypassMs ?? Math.max(0, this.#endMs - nowMs);
  }

  /** Says what the kernel has come to, an earlier agent's bypass too. Several times a second. */
  look(state: Pick<NodeState, 'bypassMs'>, nowMs: number): void {
    const { bypassMs } = state;
    this.#endMs = nowMs + bypassMs;
    const isOn = bypassMs > 0;
    if (isOn === this.#isOn && !(isOn && nowMs - this.#saidMs > REMIND_MS)) return;
    this.#saidMs = nowMs;
    if (!isOn) this.#say('PolicyBypassEnded', `is over: ${ENFORCED}`);
    else if (this.#isOn)
      this.#observer.said('warn', 'bypass', `policy is bypassed for ${timeText(bypassMs)} more: ${PASSES}`);
    else this.#say('PolicyBypassed', `is found on, for ${timeText(bypassMs)} more: ${PASSES}`);
    this.#isOn = isOn;
  }

  #say(reason: 'PolicyBypassed' | 'PolicyBypassEnded', how: string): void {
    this.#observer.bypassed(reason, this.#node, `the bypass of policy ${how}`);
  }
}

const PASSES = "what policy denies this node's pods passes, and is told as audited";
const ENFORCED = 'policy is enforced, and what passed by it is cut at its next packet';

/** `9 min 30 s`. */
export function timeText(ms: number): string {
  const seconds = Math.ceil(ms / 1000);
  const parts = [
    [Math.floor(seconds / 3600), 'h'],
    [Math.floor(seconds / 60) % 60, 'min'],
    [seconds % 60, 's'],
  ] as const;
  return parts
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`)
    .join(' ');
}

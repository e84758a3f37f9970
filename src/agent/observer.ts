// What an agent does is told to people and programs here: as lines of its log and as numbers. Nothing here may fail it.
import type { NoteEvent } from '#cluster/kubernetes/event-note.ts';
import { namedPod } from './cni-call.ts';
import { decidingRule, flowWords, ruleWords } from './flow-words.ts';
import type { Level, Log, LogEvent } from './log.ts';
import type { Meters } from './metrics/meters.ts';
import type { CniCall, CniReply, FlowEvent } from './protocol.ts';

export type ObserverParts = {
  readonly log: Log;
  readonly meters: Meters;
  /** Is told what is worth an Event. */
  readonly note: NoteEvent;
  /** Whether flows that are denied are lines of the log. */
  readonly logDenies: boolean;
};

/** Commands of the specification: what else is asked for counts as one. */
const COMMANDS: ReadonlySet<string> = new Set(['ADD', 'DEL', 'CHECK', 'GC', 'STATUS']);

export class Observer {
  readonly #log: Log;
  readonly #meters: Meters;
  readonly #note: NoteEvent;
  readonly #logDenies: boolean;

  constructor({ log, meters, note, logDenies }: ObserverParts) {
    this.#note = note;
    this.#log = log;
    this.#meters = meters;
    this.#logDenies = logDenies;
  }

  said(level: Level, event: LogEvent, message: string): void {
    this.#log.say(level, event, message);
  }

  failed(error: unknown): void {
    const [message, stack] =
      error instanceof Error ? [error.message, error.stack ?? error.message] : [String(error), ''];
    this.#log.say('error', 'failure', stack === '' ? message : stack, { failure: message });
  }

  applied(seconds: number): void {
    this.#meters.applies.observe(seconds);
  }

  cniCalled({ command, containerId, ifname, args }: CniCall, { exit, output }: CniReply, seconds: number): void {
    const known = COMMANDS.has(command) ? command : 'other';
    const { code, text } = exit === 0 ? { code: 'ok', text: '' } : failureOf(output);
    this.#meters.cniCall(known, code, seconds);
    const fields = { command: known, containerId, ifname, outcome: code, seconds };
    if (exit === 0) this.#log.say('debug', 'cni', `CNI ${known} of ${containerId}: ok`, fields);
    else this.#log.say('warn', 'cni', `CNI ${known} of ${containerId} failed (${code}): ${text}`, fields);
    if (exit !== 0 && command === 'ADD') this.#notAttached(args, text);
  }

  /** A container runtime tries again and again: that is one Event, ever so often. */
  #notAttached(args: string, text: string): void {
    const pod = namedPod(args);
    if (pod === null) return;
    const { namespace, name, uid } = pod;
    this.#note({
      reason: 'PodNotAttached',
      regarding: { apiVersion: 'v1', kind: 'Pod', namespace, name, uid },
      key: `PodNotAttached ${namespace}/${name} ${uid}`,
      ...{ text, stem: name, delayMs: 0, isStill: () => true, isShared: false },
    });
  }

  bypassed(reason: 'PolicyBypassed' | 'PolicyBypassEnded', node: string, text: string): void {
    this.#log.say('warn', 'bypass', text);
    this.#note({
      reason,
      regarding: { apiVersion: 'v1', kind: 'Node', namespace: '', name: node, uid: '' },
      // Each time is an Event of its own.
      key: `${reason} ${node} ${Date.now()}`,
      ...{ text: `node ${node}: ${text}`, stem: node, delayMs: 0, isStill: () => true, isShared: false },
    });
  }

  flows(events: readonly FlowEvent[]): void {
    if (!this.#logDenies) return;
    for (const event of events) if (event.kind === 'drop' || event.kind === 'audit') this.#denied(event);
  }

  #denied(event: FlowEvent): void {
    const { source, sourcePod, sourcePort, destination, destinationPod, destinationPort } = event;
    const { protocol, reason, leg, count } = event;
    const rule = decidingRule(event);
    this.#log.say('info', event.kind === 'drop' ? 'denied' : 'audited', flowWords(event), {
      ...{ source, sourcePod, sourcePort, destination, destinationPod, destinationPort, protocol },
      ...{ reason, direction: leg, rule: rule?.id ?? null, policy: rule === null ? null : ruleWords(rule), count },
    });
  }
}

/** What an error of the specification says. */
function failureOf(output: unknown): { readonly code: string; readonly text: string } {
  if (typeof output !== 'object' || output === null) return { code: 'unknown', text: '' };
  const code = 'code' in output && typeof output.code === 'number' ? String(output.code) : 'unknown';
  const msg = 'msg' in output && typeof output.msg === 'string' ? output.msg : '';
  const details = 'details' in output && typeof output.details === 'string' ? output.details : '';
  return { code, text: details === '' ? msg : `${msg}: ${details}` };
}

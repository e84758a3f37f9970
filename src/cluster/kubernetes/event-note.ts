// What is worth a Kubernetes Event, and who of many agents writes it. Pure.
import { hash } from 'node:crypto';

export type EventReason =
  | 'PolicyRefused'
  | 'PolicyPartlyUnderstood'
  | 'PolicyWarning'
  | 'KindUnknown'
  | 'PodNotAttached'
  | 'NetworkConfigChanged'
  | 'PolicyBypassed'
  | 'PolicyBypassEnded';

/** The object that an Event is about. */
export type Regarding = {
  readonly apiVersion: string;
  readonly kind: string;
  /** '' for objects of no namespace. */
  readonly namespace: string;
  readonly name: string;
  /** '' where it is not known. */
  readonly uid: string;
};

export type EventNote = {
  readonly reason: EventReason;
  readonly regarding: Regarding;
  /** What the Event is one of: the same note again is the same Event, once more. Its name begins with the stem. */
  readonly key: string;
  readonly stem: string;
  readonly text: string;
  /** It is written after so long, and then only if it still holds. */
  readonly delayMs: number;
  readonly isStill: () => boolean;
  /** Whether others may have written it: then it is left to them. */
  readonly isShared: boolean;
};

/** Told of what is worth an Event. Never throws, and holds up nobody. */
export type NoteEvent = (note: EventNote) => void;

/** The API takes 1 024 bytes, and a name of 253 characters. */
const LONGEST_TEXT = 1024;
const LONGEST_NAME = 200;

const ACTIONS: Readonly<Record<EventReason, string>> = {
  PolicyRefused: 'ReadPolicy',
  PolicyPartlyUnderstood: 'ReadPolicy',
  PolicyWarning: 'ReadPolicy',
  KindUnknown: 'FollowKind',
  PodNotAttached: 'AttachPod',
  NetworkConfigChanged: 'WatchNetworkConfig',
  PolicyBypassed: 'EnforcePolicy',
  PolicyBypassEnded: 'EnforcePolicy',
};

/** So many agents try to write what all of them know, one after the other: the first may be down. */
export const WRITERS = 3;

/**
 * Which turn a node has to write what every node knows: 0 comes first. Every agent finds the same order, and another one
 * for each key, so they share the work without a word. Null for those after the last.
 */
export function turnOf(node: string, nodes: readonly string[], key: string): number | null {
  const own = weightOf(node, key);
  let before = 0;
  for (const other of nodes) {
    const weight = other === node ? -1 : weightOf(other, key);
    if (weight > own || (weight === own && other < node)) before++;
    if (before >= WRITERS) return null;
  }
  return before;
}

/** FNV-1a: thousands of nodes are weighed for each Event. */
function weightOf(node: string, key: string): number {
  let sum = 0x811c9dc5;
  const text = `${node} ${key}`;
  for (let index = 0; index < text.length; index++) sum = Math.imul(sum ^ text.charCodeAt(index), 0x01000193);
  // The last characters reach the upper bits only so.
  sum = Math.imul(sum ^ (sum >>> 15), 0x2c1b3c6d);
  return (sum ^ (sum >>> 12)) >>> 0;
}

/** The namespace that an Event about the object stands in. */
export function namespaceOf({ regarding }: EventNote): string {
  return regarding.namespace === '' ? 'default' : regarding.namespace;
}

/** The same for every agent: who comes second finds it there. */
export function nameOf({ stem, key }: EventNote): string {
  return `${stem.slice(0, LONGEST_NAME)}.${hash('sha256', key, 'hex').slice(0, 16)}`;
}

/** When and how often it happened, as far as it was not told before. */
export type Seen = { readonly at: Date; readonly count: number };

/** An Event of events.k8s.io/v1. */
export function eventObject(note: EventNote, node: string, seen: Seen): object {
  const { reason, regarding, text } = note;
  const { apiVersion, kind, namespace, name, uid } = regarding;
  return {
    ...{ apiVersion: 'events.k8s.io/v1', kind: 'Event' },
    metadata: { name: nameOf(note), namespace: namespaceOf(note) },
    ...{ eventTime: microTime(seen.at), reportingController: 'moat-agent', reportingInstance: node.slice(0, 128) },
    ...{ type: 'Warning', reason, action: ACTIONS[reason], note: cut(text) },
    ...(seen.count > 1 ? seriesPatch(seen) : {}),
    regarding: { apiVersion, kind, name, ...(namespace === '' ? {} : { namespace }), ...(uid === '' ? {} : { uid }) },
  };
}

/** What is changed where it happened again. */
export function seriesPatch({ at, count }: Seen): object {
  return { series: { count, lastObservedTime: microTime(at) } };
}

function microTime(at: Date): string {
  return at.toISOString().replace('Z', '000Z');
}

/** At most so many bytes; a character is not cut in two. */
function cut(text: string): string {
  const bytes = Buffer.from(text);
  if (bytes.length <= LONGEST_TEXT) return text;
  return `${new TextDecoder().decode(bytes.subarray(0, LONGEST_TEXT - 6)).replace(/\ufffd+$/, '')}…`;
}

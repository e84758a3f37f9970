// A flow as one line for people.
import { flowWords } from '#agent/flow-words.ts';
import type { FlowEvent } from '#agent/protocol.ts';
import { type Clocks, timeOf } from './flow-filter.ts';

/** `18:30:01.123 node-a`, and the flow in words. */
export function flowText(event: FlowEvent, clocks: Clocks): string {
  return `${timeOf(event, clocks).toISOString().slice(11, 23)} ${event.node} ${flowWords(event)}`;
}

// The demo's live edit, made: a connection is open and speaks, its rule is taken out of the file, and what the
// kernel does next is timed.
import { writeFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import type { FlowEvent } from '#agent/protocol.ts';
import { formatAddress } from '#net/address.ts';
import { TCP } from '#net/protocol.ts';
import { objectName } from '#policy/diagnostic.ts';
import type { PodKey } from '#policy/world.ts';
import type { Sandbox } from '#sandbox/sandbox.ts';
import { type DeniedPlace, placesOf } from './demo-denied.ts';
import type { Edit } from './demo-edit.ts';
import { CommandError } from './errors.ts';

/** What came of it. Times are milliseconds. */
export type Cut = {
  readonly from: string;
  readonly to: string;
  readonly port: number;
  readonly rule: string;
  readonly file: string;
  readonly line: number | null;
  /** Messages that went there and back over the connection before the edit. */
  readonly answeredBefore: number;
  /** From writing the file to the first packet that was judged by the new rules. */
  readonly writeToFirstPacketMs: number;
  /** What the kernel said of that packet. */
  readonly deniedBy: string | null;
  readonly places: readonly DeniedPlace[];
  /** From writing the file as it was until a new connection passes again. */
  readonly undoneMs: number;
};

const TALK_MS = 300;
const LIMIT_MS = 5000;

/** Opens the connection, edits the file, watches, and puts the file back. */
export async function liveEdit(sandbox: Sandbox, edit: Edit, shown: (file: string) => string): Promise<Cut> {
  const { from, to, port } = edit.row;
  const ask = { from, to, port: { protocol: TCP, port } };
  const lines = policyLines(sandbox);
  const felt = await cut(sandbox, edit, ask);
  const { event } = felt;
  const rule = event?.leg === 'egress' ? event.egress : (event?.ingress ?? null);
  const { source, id } = edit.rule;
  return {
    ...{ from, to, port, rule: id, line: source.line, file: shown(edit.file) },
    answeredBefore: felt.answeredBefore,
    writeToFirstPacketMs: felt.tookMs,
    deniedBy: rule?.id ?? null,
    places: placesOf(rule, shown).map((each) => ({ ...each, line: lines.get(each.object) ?? each.line })),
    undoneMs: await undo(sandbox, edit, ask),
  };
}

/** Where each policy stood before the edit, which moves what is below it. */
function policyLines(sandbox: Sandbox): ReadonlyMap<string, number | null> {
  return new Map([...sandbox.world.policies.values()].map(({ source }) => [objectName(source), source.line]));
}

type Ask = Parameters<Sandbox['openStream']>[0];
type Felt = { readonly answeredBefore: number; readonly tookMs: number; readonly event: FlowEvent | null };

async function cut(sandbox: Sandbox, edit: Edit, ask: Ask): Promise<Felt> {
  const stream = await sandbox.openStream(ask);
  try {
    await pause(TALK_MS);
    const answeredBefore = stream.counts.answered;
    const dropped = firstDrop(sandbox, edit);
    const writtenMs = performance.now();
    writeFileSync(edit.file, edit.after);
    const silentMs = await stream.firstSilent(writtenMs, LIMIT_MS);
    if (silentMs === null) throw new CommandError(`the edit of ${edit.file} was not felt within ${LIMIT_MS} ms`);
    return { answeredBefore, tookMs: silentMs - writtenMs, event: await dropped };
  } finally {
    await stream.close();
  }
}

async function undo(sandbox: Sandbox, edit: Edit, ask: Ask): Promise<number> {
  const changed = Promise.withResolvers<void>();
  const forget = sandbox.onEvent((event) => {
    if (event.kind === 'change') changed.resolve();
  });
  const writtenMs = performance.now();
  writeFileSync(edit.file, edit.before);
  await changed.promise;
  forget();
  const again = await sandbox.openStream(ask);
  const tookMs = performance.now() - writtenMs;
  await again.close();
  return tookMs;
}

/** The kernel's event for the first packet of the connection that is dropped, either way; null where none comes. */
async function firstDrop(sandbox: Sandbox, { row }: Edit): Promise<FlowEvent | null> {
  const found = Promise.withResolvers<FlowEvent>();
  const ends = [addressesOf(sandbox, row.from), addressesOf(sandbox, row.to)] as const;
  const isBetween = (a: string, b: string): boolean => ends[0].includes(a) && ends[1].includes(b);
  const forget = sandbox.onEvent((event) => {
    if (event.kind !== 'flows') return;
    const drop = event.events.find(
      ({ kind, source, destination }) =>
        kind === 'drop' && (isBetween(source, destination) || isBetween(destination, source)),
    );
    if (drop !== undefined) found.resolve(drop);
  });
  try {
    return await Promise.race([found.promise, pause(LIMIT_MS, null)]);
  } finally {
    forget();
  }
}

function addressesOf(sandbox: Sandbox, pod: string): readonly string[] {
  return (sandbox.world.pods.get(pod as PodKey)?.addresses ?? []).map(formatAddress);
}

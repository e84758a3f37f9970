// What is known of each watched file, and how a look at the files changes it. Owns no timer and no watch.
import { type BigIntStats, existsSync, statSync } from 'node:fs';
import { MANIFEST_CODES } from '#cluster/manifests/diagnostics.ts';
import { parseManifest } from '#cluster/manifests/parse.ts';
import type { Diagnostic } from '#policy/diagnostic.ts';
import type { SourceObject } from '#policy/object.ts';
import { readTextFile } from './read-text.ts';
import { takeInventory } from './world/inventory.ts';

/** One file: its last good objects, and what is wrong with it now. */
export type FileState = {
  /** Tells one content from another without reading it; '' while the file is away. */
  readonly signature: string;
  readonly objects: readonly SourceObject[];
  readonly diagnostics: readonly Diagnostic[];
  /** False where parts of the content that the objects are from could not be read. */
  readonly whole: boolean;
  /** When the file was first found missing or empty; null while it is there. */
  readonly awaySinceMs: number | null;
};

export type FileStates = ReadonlyMap<string, FileState>;

export type Look = {
  readonly states: FileStates;
  readonly diagnostics: readonly Diagnostic[];
  /** When a file that is away now will count as gone; null where none is. */
  readonly lookAgainInMs: number | null;
};

/** Looks at the files again: reads those that changed, keeps what those that can't be used held before. */
export function nextStates(
  before: FileStates,
  names: readonly string[],
  clock: { readonly nowMs: number; readonly goneAfterMs: number },
): Look {
  const states = new Map<string, FileState>();
  const gone: Diagnostic[] = [];
  const listed = new Set(names);
  for (const name of new Set([...names, ...before.keys()])) {
    const earlier = before.get(name);
    // A file that is there, but listed no more, is now reached by another name.
    if (!listed.has(name) && existsSync(name)) continue;
    const state = lookAt(name, earlier) ?? awayState(name, earlier, clock.nowMs);
    if (state.awaySinceMs === null || clock.nowMs - state.awaySinceMs < clock.goneAfterMs) states.set(name, state);
    else if (state.objects.length > 0) gone.push(goneFile(name, state));
  }
  const diagnostics = [...states.values()].flatMap((state) => state.diagnostics);
  const waits = [...states.values()].flatMap(({ awaySinceMs }) => (awaySinceMs === null ? [] : [awaySinceMs]));
  const lookAgainInMs =
    waits.length === 0 ? null : Math.max(1, Math.min(...waits) + clock.goneAfterMs - clock.nowMs + 1);
  return { states, diagnostics: [...diagnostics, ...gone], lookAgainInMs };
}

/** The state of a file that is there; null for one that is away, or empty: an editor may be about to write it. */
function lookAt(name: string, earlier: FileState | undefined): FileState | null {
  try {
    const signature = signatureOf(statSync(name, { bigint: true }));
    if (earlier !== undefined && earlier.signature === signature) return earlier;
    const text = readTextFile(name);
    if (text.trim() === '' && (earlier?.objects.length ?? 0) > 0) return null;
    return readState({ name, text, signature }, earlier);
  } catch (error) {
    if (!(error instanceof Error) || !('code' in error)) throw error;
    // Only what is surely missing is missing: a file that can't be read may be as it was.
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return null;
    return unreadableState(name, String(error.code), earlier);
  }
}

function signatureOf({ ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return [ino, size, mtimeNs, ctimeNs].join(' ');
}

type Content = { readonly name: string; readonly text: string; readonly signature: string };

function readState({ name, text, signature }: Content, earlier: FileState | undefined): FileState {
  const { objects, diagnostics, incomplete } = parseManifest(text, name);
  // An object under another kind, name or namespace is gone from its own: a slip of the pen must not end a policy.
  const misread = takeInventory(objects).diagnostics.filter(({ severity }) => severity === 'error');
  const whole = !incomplete && misread.length === 0;
  // Where there is nothing from before, what can be read is better than nothing: policies may be among it.
  if (whole || earlier?.whole !== true) return { signature, objects, diagnostics, whole, awaySinceMs: null };
  const kept = earlier.objects;
  const what = incomplete ? 'does not parse' : 'is not valid';
  const stale = staleFile(name, `${name} ${what}; ${countOf(kept)} that it held before stay in force`);
  return { signature, objects: kept, diagnostics: [...diagnostics, ...misread, stale], whole: true, awaySinceMs: null };
}

function awayState(name: string, earlier: FileState | undefined, nowMs: number): FileState {
  const objects = earlier?.objects ?? [];
  const stale = staleFile(name, `${name} is missing or empty; ${countOf(objects)} that it held stay for now`);
  const { whole = false, awaySinceMs = null } = earlier ?? {};
  return { signature: '', objects, diagnostics: [stale], whole, awaySinceMs: awaySinceMs ?? nowMs };
}

function unreadableState(name: string, reason: string, earlier: FileState | undefined): FileState {
  const objects = earlier?.objects ?? [];
  const stale = staleFile(name, `${name} can't be read (${reason}); ${countOf(objects)} that it held stay in force`);
  return { signature: '', objects, diagnostics: [stale], whole: earlier?.whole ?? false, awaySinceMs: null };
}

function countOf(objects: readonly SourceObject[]): string {
  return objects.length === 1 ? 'the object' : `the ${objects.length} objects`;
}

function staleFile(file: string, message: string): Diagnostic {
  const hint = 'Correct or restore the file; it is read again as soon as it changes.';
  return fileDiagnostic('file-stale', file, { message, hint });
}

function goneFile(file: string, { objects }: FileState): Diagnostic {
  const message = `${file} is gone, and ${countOf(objects)} that it held with it`;
  return fileDiagnostic('file-gone', file, { message, hint: 'Restore the file to have them back.' });
}

function fileDiagnostic(
  code: 'file-stale' | 'file-gone',
  file: string,
  { message, hint }: { readonly message: string; readonly hint: string },
): Diagnostic {
  return { code, severity: MANIFEST_CODES[code].severity, object: '', path: '', file, line: null, message, hint };
}

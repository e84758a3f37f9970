// Paths → texts: files, directories (all manifests below them), and `-` for standard input. The only place that reads.
import { readdirSync, realpathSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { MANIFEST_CODES, type ManifestCode } from '#cluster/manifests/diagnostics.ts';
import type { Diagnostic } from '#policy/diagnostic.ts';
import { MAX_FILE_BYTES, readText, readTextFile } from './read-text.ts';

/** One file's text, under the name that messages use. */
export type ManifestFile = { readonly name: string; readonly text: string };

export type ReadFiles = { readonly files: readonly ManifestFile[]; readonly diagnostics: readonly Diagnostic[] };

const MANIFEST_NAME = /\.(ya?ml|json)$/i;
const STDIN = '-';

/** Reads every path. What can't be read is a diagnostic; the rest is still read. A file reached twice is read once. */
export function readFiles(paths: readonly string[]): ReadFiles {
  const state = emptyState();
  for (const path of paths) {
    if (path === STDIN) readStdin(state);
    else readPath(state, path);
  }
  return state;
}

/** What the paths stand for now: manifest files, and the directories that were walked. `-` is left out. */
export type Listing = {
  readonly names: readonly string[];
  readonly directories: readonly string[];
  readonly diagnostics: readonly Diagnostic[];
};

/** Lists the manifest files without reading them. */
export function listFiles(paths: readonly string[]): Listing {
  const state = emptyState();
  const names: string[] = [];
  for (const path of paths) if (path !== STDIN) walk(state, path, (name) => names.push(name));
  return { names, directories: state.directories, diagnostics: state.diagnostics };
}

type State = {
  readonly files: ManifestFile[];
  readonly directories: string[];
  readonly diagnostics: Diagnostic[];
  readonly seen: Set<string>;
};

function emptyState(): State {
  return { files: [], directories: [], diagnostics: [], seen: new Set() };
}

function readPath(state: State, path: string): void {
  walk(state, path, (name) => {
    attempt(state, name, () => state.files.push({ name, text: readTextFile(name) }));
  });
}

function readStdin(state: State): void {
  if (state.seen.has(STDIN)) return;
  state.seen.add(STDIN);
  attempt(state, 'standard input', () => state.files.push({ name: '<stdin>', text: readText(0) }));
}

/** Visits a file, or each manifest below a directory in the order of their names. */
function walk(state: State, path: string, visit: (name: string) => void): void {
  attempt(state, path, () => {
    if (!statSync(path).isDirectory()) {
      if (isFirst(state, path)) visit(path);
      return;
    }
    const before = state.seen.size;
    const found = walkDirectory(state, path, visit);
    if (found === 0 && state.seen.size === before + 1) {
      report(state, path, 'file-none', `the directory ${path} holds no .yaml, .yml or .json file`);
    }
  });
}

/** Returns how many manifests it met, those seen before included. */
function walkDirectory(state: State, directory: string, visit: (name: string) => void): number {
  // A link to a directory above would lead round for ever: each real directory is entered once.
  if (!isFirst(state, directory)) return 0;
  state.directories.push(directory);
  let found = 0;
  for (const name of readdirSync(directory).sort()) {
    if (name.startsWith('.')) continue;
    const path = join(directory, name);
    attempt(state, path, () => {
      const kind = statSync(path);
      if (kind.isDirectory()) {
        found += walkDirectory(state, path, visit);
      } else if (MANIFEST_NAME.test(name)) {
        found++;
        // Whoever opens a pipe or a device may wait for ever.
        if (!kind.isFile()) report(state, path, 'file-unreadable', `${path} can't be read: it is no regular file`);
        else if (isFirst(state, path)) visit(path);
      }
    });
  }
  return found;
}

/** True the first time that the file or directory behind a path is met, by whatever name. */
function isFirst(state: State, path: string): boolean {
  const real = realpathSync(path);
  if (state.seen.has(real)) return false;
  state.seen.add(real);
  return true;
}

function attempt(state: State, path: string, action: () => void): void {
  try {
    action();
  } catch (error) {
    if (!(error instanceof Error) || !('code' in error)) throw error;
    report(state, path, 'file-unreadable', `${path} can't be read: ${reasonOf(String(error.code))}`);
  }
}

const REASONS: ReadonlyMap<string, string> = new Map([
  ['ENOENT', 'there is no such file or directory'],
  ['EACCES', 'permission is denied'],
  ['EPERM', 'permission is denied'],
  ['ELOOP', 'its symbolic links lead in a circle'],
  ['EISDIR', 'it is a directory'],
  ['ENOTDIR', 'a part of the path is no directory'],
  ['ENAMETOOLONG', 'the path is too long'],
  ['EFBIG', `it is larger than ${MAX_FILE_BYTES / 1024 / 1024} MiB`],
]);

function reasonOf(code: string): string {
  return REASONS.get(code) ?? code;
}

function report(state: State, file: string, code: ManifestCode, message: string): void {
  const { severity } = MANIFEST_CODES[code];
  const hint = 'Check the path given with -f.';
  state.diagnostics.push({ code, severity, object: '', path: '', file, line: null, message, hint });
}

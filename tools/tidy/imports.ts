// Tidy checks on imports: rooms keep to the table, paths take one form, nothing imports itself in a circle. (Files and
// exports that nobody uses are knip's to find.)
import { posix } from 'node:path';
import { allowedRooms, isPure, isTest, roomOf } from './rooms.ts';
import type { Import, Problem, SourceFile } from './source.ts';

/** Every import of every file: its form, and whether the table allows it. */
export function checkImports(files: readonly SourceFile[]): readonly Problem[] {
  return files.flatMap((file) => file.imports.flatMap((each) => importProblems(file, each)));
}

function importProblems(file: SourceFile, each: Import): readonly Problem[] {
  const message = importProblem(file.path, each.specifier);
  return message === null ? [] : [{ path: file.path, line: each.line, message }];
}

function importProblem(path: string, specifier: string | null): string | null {
  if (specifier === null) return 'import() takes a plain string, so that checks can follow it';
  if (specifier.startsWith('.')) return relativeProblem(path, specifier);
  if (specifier.startsWith('#')) return roomProblem(path, specifier);
  if (isPure(path)) return purePackageProblem(specifier);
  return null;
}

function relativeProblem(path: string, specifier: string): string | null {
  const target = resolveRelative(path, specifier);
  if (!path.startsWith('src/')) return null;
  if (!target.startsWith('src/')) return `${specifier} leaves src/: use #test/… (tests only)`;
  const [from, to] = [roomOf(path), roomOf(target)];
  return from === to ? null : `${specifier} crosses into another room: write #${target.slice('src/'.length)}`;
}

function roomProblem(path: string, specifier: string): string | null {
  if (specifier.startsWith('#test/')) return isTest(path) ? null : `${specifier}: only tests use test/`;
  const [from, to] = [roomOf(path), roomOf(resolveSubpath(specifier))];
  if (to === null) return `${specifier} is in no room of tools/tidy/rooms.ts`;
  if (from === to && path.startsWith('src/')) return sameRoomProblem(path, specifier);
  const allowed = allowedRooms(path);
  if (allowed === 'all' || allowed.includes(to.name)) return null;
  return `${from?.name ?? path} may not import ${to.name}`;
}

/** Two dialects are one room in the table, yet may not know of each other. */
function sameRoomProblem(path: string, specifier: string): string | null {
  const dialect = (text: string): string | undefined => /dialects\/([^/]+)\//.exec(text)?.[1];
  if (dialect(path) !== dialect(specifier)) return 'a dialect may not import another';
  return `${specifier} stays in the room: write a path that begins with a dot`;
}

/** Packages that pure rooms may use: none yet but these, each without Node. */
const PURE_PACKAGES: readonly string[] = ['js-yaml'];

function purePackageProblem(specifier: string): string | null {
  return PURE_PACKAGES.includes(specifier) ? null : `${specifier}: pure rooms import nothing of Node or npm`;
}

/** Import circles of any length, type-only imports included; each is reported once. */
export function checkCycles(files: readonly SourceFile[]): readonly Problem[] {
  const graph = new Map(files.map((file) => [file.path, targetsOf(file)]));
  const done = new Set<string>();
  const problems: Problem[] = [];
  const visit = (path: string, trail: readonly string[]): void => {
    if (trail.includes(path)) {
      const circle = [...trail.slice(trail.indexOf(path)), path];
      problems.push({ path, line: 1, message: `imports itself: ${circle.join(' → ')}` });
      return;
    }
    if (done.has(path)) return;
    for (const next of graph.get(path) ?? []) visit(next, [...trail, path]);
    done.add(path);
  };
  for (const path of graph.keys()) visit(path, []);
  return problems;
}

function targetsOf(file: SourceFile): readonly string[] {
  const specifiers = file.imports.flatMap((each) => (each.specifier === null ? [] : [each.specifier]));
  return specifiers.flatMap((specifier) => {
    if (specifier.startsWith('.')) return [resolveRelative(file.path, specifier)];
    return specifier.startsWith('#') ? [resolveSubpath(specifier)] : [];
  });
}

function resolveRelative(path: string, specifier: string): string {
  return posix.join(posix.dirname(path), specifier);
}

/** package.json's "imports". */
function resolveSubpath(specifier: string): string {
  return specifier.startsWith('#test/') ? specifier.slice(1) : `src/${specifier.slice(1)}`;
}

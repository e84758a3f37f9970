// Tidy checks on the text of a file: its purpose comment, its length, marks of unfinished work, calls that are banned,
// paths of somebody's machine.
import { isPure } from './rooms.ts';
import { lineAt, type Problem, type SourceFile } from './source.ts';

const MAX_LINES = 400;
const MAX_TEST_LINES = 600;

/** A pattern that may not stand in the code (or, with `comments`, in comments either), and what to write instead. */
type Ban = {
  readonly pattern: RegExp;
  readonly message: string;
  readonly comments?: true;
  readonly only?: (path: string) => boolean;
};

const UNFINISHED = ['TO', 'DO|FIX', 'ME|XX', 'X|HA', 'CK'].join('');

const BANS: readonly Ban[] = [
  {
    pattern: new RegExp(`\\b(${UNFINISHED})\\b`, 'g'),
    message: 'finish it, or file an issue: no marks of unfinished work',
    comments: true,
  },
  {
    pattern: /\bMath\.random\b/g,
    message: 'use a seeded generator (tests) or node:crypto (ids)',
    // No result depends on a hash; which texts collide must not be known.
    only: (path) => path !== 'src/identity/hash.ts',
  },
  { pattern: /\bnew Date\b|\bDate\.\w/g, message: 'a pure room has no clock: take the time as a value', only: isPure },
  { pattern: /\b(process|performance|console)\.\w/g, message: 'a pure room has no process', only: isPure },
  { pattern: /@ts-(ignore|nocheck)\b/g, message: 'say it in types', comments: true },
  { pattern: /\b(test|describe|it)\.only\b/g, message: 'this hides every other test', only: isTestFile },
];

/** Every check of one file's text. */
export function checkText(files: readonly SourceFile[]): readonly Problem[] {
  return files.flatMap((file) => [...purposeProblems(file), ...lengthProblems(file), ...banProblems(file)]);
}

/** The first line is a comment that says something, in any file that a person wrote. */
function purposeProblems(file: SourceFile): readonly Problem[] {
  const lines = file.text.split('\n');
  const first = lines[0]?.startsWith('#!') || lines[0]?.includes('SPDX') ? lines[1] : lines[0];
  if (/^(\/\/|\/\*) ?\S.{8,}/.test(first ?? '')) return [];
  return [{ path: file.path, line: 1, message: 'begin with one to three lines of comment: what this file is for' }];
}

function lengthProblems(file: SourceFile): readonly Problem[] {
  const lines = file.text.split('\n').length - 1;
  const limit = isTestFile(file.path) ? MAX_TEST_LINES : MAX_LINES;
  if (lines <= limit || isGenerated(file.path)) return [];
  return [{ path: file.path, line: limit + 1, message: `${lines} lines; ${limit} is the limit` }];
}

function banProblems(file: SourceFile): readonly Problem[] {
  return BANS.filter((ban) => ban.only?.(file.path) ?? true).flatMap((ban) => {
    const text = ban.comments ? file.text : file.code;
    return [...text.matchAll(ban.pattern)].map((match) => ({
      path: file.path,
      line: lineAt(text, match.index),
      message: `${match[0]}: ${ban.message}`,
    }));
  });
}

function isTestFile(path: string): boolean {
  return path.endsWith('.test.ts');
}

/** Made by a tool from something else: long is fine, and its first line names the tool. */
function isGenerated(path: string): boolean {
  return path.endsWith('.gen.ts') || path.endsWith('vmlinux.h');
}

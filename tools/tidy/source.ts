// The project's source files as the tidy checks see them: path, text, code without comments, and what they import.
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** `path` is relative to the root, with forward slashes. */
export type SourceFile = {
  readonly path: string;
  readonly text: string;
  /** The text with comments and what stands in strings blanked out: same length, same lines. */
  readonly code: string;
  readonly imports: readonly Import[];
};

/** `specifier` is null for an `import()` of something other than a plain string. */
export type Import = { readonly specifier: string | null; readonly line: number };

/** One finding. */
export type Problem = { readonly path: string; readonly line: number; readonly message: string };

/** Reads every TypeScript and C source under the root. */
export function readSources(root: string): readonly SourceFile[] {
  const paths = globSync('{src,test,tools,bench,ui,bpf,cni}/**/*.{ts,tsx,c,h}', { cwd: root });
  return paths.sort().map((path) => sourceFile(path, readFileSync(join(root, path), 'utf8')));
}

/** A source from its text. */
export function sourceFile(path: string, text: string): SourceFile {
  const code = blank(text, (token) => (token.startsWith('/') ? spaces(token) : quoted(token)));
  return { path, text, code, imports: /\.tsx?$/.test(path) ? findImports(text, code) : [] };
}

/** The line of an offset, from 1. */
export function lineAt(text: string, offset: number): number {
  return text.slice(0, offset).split('\n').length;
}

const IMPORTS: readonly RegExp[] = [
  /^\s*(?:import|export)\b[^'"`;]*?\bfrom\s*(['"])(?<specifier>[^'"]+)\1/gm,
  /^\s*import\s*(['"])(?<specifier>[^'"]+)\1/gm,
  /\bimport\s*\(\s*(?:(['"])(?<specifier>[^'"]+)\1\s*\)|)/g,
];

/** An `import` counts only where the code still has it: not in a comment, not in a string. */
function findImports(text: string, code: string): readonly Import[] {
  const uncommented = blank(text, (token) => (token.startsWith('/') ? spaces(token) : token));
  return IMPORTS.flatMap((pattern) =>
    [...uncommented.matchAll(pattern)]
      .filter((match) => /^\s*(import|export)\b/.test(code.slice(match.index)))
      .map((match) => ({
        specifier: match.groups?.specifier ?? null,
        line: lineAt(text, match.index + match[0].length),
      })),
  );
}

/** Strings come before comments, so that `'//'` opens none. Regular expressions are not known. */
const TOKENS = /'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`|\/\*[\s\S]*?\*\/|(?<![\\/])\/\/[^\n]*/g;

function blank(text: string, replace: (token: string) => string): string {
  return text.replace(TOKENS, replace);
}

/** A template keeps its `${…}`: that is code. Nested templates are taken as text. */
function quoted(token: string): string {
  const inner = token.slice(1, -1).split(/(\$\{[^}]*\})/);
  const kept = inner.map((part) => (part.startsWith('${') && token.startsWith('`') ? part : spaces(part)));
  return token.charAt(0) + kept.join('') + token.charAt(0);
}

function spaces(text: string): string {
  return text.replace(/[^\n]/g, ' ');
}

// The house rules that a machine can check, on the whole project; and each check on planted bad files, so that a check
// that has stopped seeing anything fails here.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { checkCycles, checkImports } from '../tools/tidy/imports.ts';
import { roomOf } from '../tools/tidy/rooms.ts';
import { type Problem, readSources, type SourceFile } from '../tools/tidy/source.ts';
import { checkText } from '../tools/tidy/text.ts';

const ROOT = join(import.meta.dirname, '..');

type Check = (files: readonly SourceFile[]) => readonly Problem[];

const CHECKS: Readonly<Record<string, Check>> = {
  'rooms import what the table allows': checkImports,
  'no imports in circles': checkCycles,
  'purpose comments, lengths, banned words and calls': checkText,
};

const project = readSources(ROOT);

test('the tidy checks see the project', () => {
  assert.ok(project.length > 25, `saw ${project.length} files`);
  const imports = project.flatMap((file) => file.imports);
  assert.ok(imports.length > 60, `saw ${imports.length} imports`);
  const homeless = project.filter((file) => file.path.startsWith('src/') && roomOf(file.path) === null);
  assert.deepEqual(
    homeless.map((file) => file.path),
    [],
    'every source is in a room',
  );
});

for (const [name, check] of Object.entries(CHECKS)) {
  test(`the project is tidy: ${name}`, () => {
    assert.deepEqual(check(project).map(problemText), []);
  });
}

/** Planted files: path → text; and the one problem that the check must find, by path and a piece of its message. */
type Planted = {
  readonly what: string;
  readonly check: Check;
  readonly files: Readonly<Record<string, string>>;
  readonly found: readonly (readonly [path: string, message: string])[];
};

const PURPOSE = '// A planted file for the tidy test.\n';
/** Put together here, because these checks read this file too. */
const unfinished = 'TO' + 'DO';
const CHANCE = ['Math', 'random()'].join('.');

const PLANTED: readonly Planted[] = [
  {
    what: 'a lower room that imports a higher one',
    check: checkImports,
    files: { 'src/net/a.ts': `${PURPOSE}import { b } from '#policy/b.ts';\n` },
    found: [['src/net/a.ts', 'net may not import policy']],
  },
  {
    what: 'a type-only import against the table',
    check: checkImports,
    files: { 'src/identity/a.ts': `${PURPOSE}import type {\n  B,\n} from '#compile/b.ts';\n` },
    found: [['src/identity/a.ts', 'identity may not import compile']],
  },
  {
    what: 'a dynamic import against the table',
    check: checkImports,
    files: { 'src/policy/a.ts': `${PURPOSE}export const b = await import('#cluster/b.ts');\n` },
    found: [['src/policy/a.ts', 'policy may not import cluster']],
  },
  {
    what: 'a re-export against the table',
    check: checkImports,
    files: { 'src/policy/a.ts': `${PURPOSE}export { b } from '#compile/b.ts';\n` },
    found: [['src/policy/a.ts', 'policy may not import compile']],
  },
  {
    what: 'a dynamic import of a name made at run time',
    check: checkImports,
    files: { 'src/cli/a.ts': `${PURPOSE}export const b = await import(process.argv[2]);\n` },
    found: [['src/cli/a.ts', 'plain string']],
  },
  {
    what: 'a relative path into another room',
    check: checkImports,
    files: { 'src/compile/a.ts': `${PURPOSE}import { b } from '../net/b.ts';\n` },
    found: [['src/compile/a.ts', 'write #net/b.ts']],
  },
  {
    what: 'a room path that stays in the room',
    check: checkImports,
    files: { 'src/net/a.ts': `${PURPOSE}import { b } from '#net/b.ts';\n` },
    found: [['src/net/a.ts', 'begins with a dot']],
  },
  {
    what: 'a dialect that imports another',
    check: checkImports,
    files: { 'src/dialects/kubernetes/a.ts': `${PURPOSE}import { b } from '#dialects/calico/b.ts';\n` },
    found: [['src/dialects/kubernetes/a.ts', 'a dialect may not import another']],
  },
  {
    what: 'a datapath that imports another',
    check: checkImports,
    files: { 'src/datapath/ebpf/a.ts': `${PURPOSE}import { b } from '#datapath/reference/b.ts';\n` },
    found: [['src/datapath/ebpf/a.ts', 'datapath/ebpf may not import datapath/reference']],
  },
  {
    what: 'Node in a pure room',
    check: checkImports,
    files: { 'src/analyze/a.ts': `${PURPOSE}import { readFileSync } from 'node:fs';\n` },
    found: [['src/analyze/a.ts', 'pure rooms import nothing of Node']],
  },
  {
    what: 'test support in a source',
    check: checkImports,
    files: { 'src/cli/a.ts': `${PURPOSE}import { b } from '#test/support/b.ts';\n` },
    found: [['src/cli/a.ts', 'only tests use test/']],
  },
  {
    what: 'a circle of three files, one link of it dynamic',
    check: checkCycles,
    files: {
      'src/net/a.ts': `${PURPOSE}import { b } from './b.ts';\n`,
      'src/net/b.ts': `${PURPOSE}import type { c } from './c.ts';\n`,
      'src/net/c.ts': `${PURPOSE}export const a = await import('./a.ts');\n`,
    },
    found: [['src/net/a.ts', 'src/net/a.ts → src/net/b.ts → src/net/c.ts → src/net/a.ts']],
  },
  {
    what: 'a file that says nothing of its purpose',
    check: checkText,
    files: { 'src/net/a.ts': "import { b } from './b.ts';\n// Too late.\n", 'bpf/a.h': '#pragma once\n' },
    found: [
      ['bpf/a.h', 'what this file is for'],
      ['src/net/a.ts', 'what this file is for'],
    ],
  },
  {
    what: 'a file that is too long',
    check: checkText,
    files: { 'src/net/a.ts': PURPOSE + '\n'.repeat(400), 'src/net/b.test.ts': PURPOSE + '\n'.repeat(500) },
    found: [['src/net/a.ts', '401 lines']],
  },
  {
    what: 'a mark of unfinished work, in a comment',
    check: checkText,
    files: { 'src/net/a.ts': `${PURPOSE}// ${unfinished}: later\n` },
    found: [['src/net/a.ts', unfinished]],
  },
  {
    what: 'chance and the clock, but not in a comment',
    check: checkText,
    files: {
      'src/net/a.ts': `${PURPOSE}// Math.random is banned.\nexport const a = Math.random() + Date.now();\n`,
      'src/cli/b.ts': `${PURPOSE}export const b = Date.now();\n`,
    },
    found: [
      ['src/net/a.ts', 'Math.random'],
      ['src/net/a.ts', 'no clock'],
    ],
  },
  {
    what: 'code in a template',
    check: checkText,
    files: { 'src/net/a.ts': `${PURPOSE}export const a = \`\${${CHANCE}}\`;\n` },
    found: [['src/net/a.ts', 'Math.random']],
  },
  {
    what: 'a string that looks like a comment does not hide what follows',
    check: checkText,
    files: { 'src/net/a.ts': `${PURPOSE}export const a = '//' + Math.random();\n` },
    found: [['src/net/a.ts', 'Math.random']],
  },
];

for (const planted of PLANTED) {
  test(`the tidy checks find ${planted.what}`, () => {
    const problems = inTree(planted.files, (root) => planted.check(readSources(root)));
    assert.equal(problems.length, planted.found.length, problems.map(problemText).join('\n'));
    for (const [index, [path, message]] of planted.found.entries()) {
      assert.equal(problems[index]?.path, path);
      assert.ok(problems[index]?.message.includes(message), problems[index]?.message);
    }
  });
}

function inTree<T>(files: Readonly<Record<string, string>>, use: (root: string) => T): T {
  const root = mkdtempSync(join(tmpdir(), 'moat-tidy-'));
  try {
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(join(root, dirname(path)), { recursive: true });
      writeFileSync(join(root, path), text);
    }
    return use(root);
  } finally {
    rmSync(root, { recursive: true });
  }
}

function problemText(problem: Problem): string {
  return `${problem.path}:${problem.line}: ${problem.message}`;
}

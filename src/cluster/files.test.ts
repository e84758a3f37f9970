// Paths that people give, and what may be wrong with them. On a real file system.
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { after, test } from 'node:test';
import { readFiles } from './files.ts';

const root = mkdtempSync(join(tmpdir(), 'moat-files-'));
after(() => rmSync(root, { recursive: true, force: true }));

function folder(name: string, files: readonly string[]): string {
  const path = join(root, name);
  mkdirSync(path, { recursive: true });
  for (const file of files) {
    mkdirSync(join(path, file, '..'), { recursive: true });
    writeFileSync(join(path, file), `# ${file}\n`);
  }
  return path;
}

/** Names of the files that were read, below `base`, and codes of what was wrong. */
function read(base: string, paths: readonly string[]): { files: string[]; found: string[] } {
  const { files, diagnostics } = readFiles(paths);
  return { files: files.map(({ name }) => relative(base, name)), found: diagnostics.map(({ code }) => code) };
}

test('files: a directory is read with all below it, manifests only, in order', () => {
  const base = folder('tree', ['b.yml', 'a.yaml', 'c/d.JSON', 'c/e.txt', '.hidden/f.yaml', 'README.md']);
  assert.deepEqual(read(base, [base]), { files: ['a.yaml', 'b.yml', 'c/d.JSON'], found: [] });
});

test('files: a file is read whatever its name', () => {
  const base = folder('named', ['policy.txt']);
  assert.deepEqual(read(base, [join(base, 'policy.txt')]), { files: ['policy.txt'], found: [] });
});

test('files: what is reached twice is read once', () => {
  const base = folder('twice', ['a.yaml']);
  symlinkSync('a.yaml', join(base, 'link.yaml'));
  assert.deepEqual(read(base, [base, join(base, 'a.yaml'), base]), { files: ['a.yaml'], found: [] });
});

test('files: a link to a directory above does not lead round', () => {
  const base = folder('round', ['a.yaml', 'b/c.yaml']);
  symlinkSync('..', join(base, 'b', 'up'));
  assert.deepEqual(read(base, [base]), { files: ['a.yaml', 'b/c.yaml'], found: [] });
});

test('files: links that lead in a circle, or nowhere, are named', () => {
  const base = folder('circle', ['a.yaml']);
  symlinkSync('x.yaml', join(base, 'y.yaml'));
  symlinkSync('y.yaml', join(base, 'x.yaml'));
  symlinkSync('none.yaml', join(base, 'z.yaml'));
  assert.deepEqual(read(base, [base]), {
    files: ['a.yaml'],
    found: ['file-unreadable', 'file-unreadable', 'file-unreadable'],
  });
});

test('files: a path that is missing is named, and the others are read', () => {
  const base = folder('missing', ['a.yaml']);
  const { files, diagnostics } = readFiles([join(base, 'none.yaml'), base]);
  assert.equal(files.length, 1);
  assert.match(diagnostics[0]?.message ?? '', /none\.yaml can't be read: there is no such file or directory/);
  assert.equal(diagnostics[0]?.severity, 'error');
});

test('files: a directory without manifests is named', () => {
  const base = folder('empty', ['README.md']);
  assert.deepEqual(read(base, [base]), { files: [], found: ['file-none'] });
});

test('files: a file that may not be read is named', {
  skip: process.getuid?.() === 0 && 'root may read everything',
}, () => {
  const base = folder('locked', ['a.yaml']);
  chmodSync(join(base, 'a.yaml'), 0);
  assert.deepEqual(read(base, [base]), { files: [], found: ['file-unreadable'] });
});

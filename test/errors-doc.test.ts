// docs/errors.md and the catalogues of codes say the same.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { MANIFEST_CODES } from '#cluster/manifests/diagnostics.ts';
import { KUBERNETES_CODES } from '#dialects/kubernetes/diagnostics.ts';

const PAGE = readFileSync(join(import.meta.dirname, '../docs/errors.md'), 'utf8');

/** Rows of the tables under a heading: code → severity and meaning. */
function documented(heading: string): Record<string, { severity: string; meaning: string }> {
  const [, section = ''] = PAGE.split(`\n## ${heading}\n`);
  const rows = (section.split('\n## ')[0] ?? '').matchAll(/^\| `([a-z-]+)` +\| (\w+) +\| (.+?) +\| (.+?) +\|$/gm);
  return Object.fromEntries(
    [...rows].map(([, code = '', severity = '', meaning = '', advice = '']) => {
      assert.ok(advice.length > 10, `${code} has no advice`);
      return [code, { severity, meaning }];
    }),
  );
}

const CATALOGUES = [
  ['Files and objects', MANIFEST_CODES],
  ['NetworkPolicy', KUBERNETES_CODES],
] as const;

for (const [heading, codes] of CATALOGUES) {
  test(`docs/errors.md lists every code of: ${heading}`, () => {
    assert.deepEqual(documented(heading), codes);
  });
}

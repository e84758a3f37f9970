// Real folders of manifests, hundreds of them, through the loader: no crash, no doubt left unnamed.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { isInvalid, loadManifests } from '#cluster/load.ts';
import { renderDiagnostic } from '#policy/render.ts';
import { CASES, needsCases } from './support/needs.ts';

/** Folders of netpol-analyzer that are invalid, and why. Every other folder must load without an error. */
const INVALID: Readonly<Record<string, string>> = {
  'acs-security-demos-added-workloads': 'object-duplicate',
  bad_path_namespace_with_same_name: 'object-duplicate',
  dirty: 'yaml-syntax',
  document_with_syntax_error: 'yaml-syntax',
  malformed_pod_example: 'object-field',
  'malformed-pod-example-2': 'object-field',
  'malformed-pod-example-3': 'object-header',
  'malformed-pod-example-4': 'object-header',
  np_bad_path_test_1: 'object-duplicate',
  np_bad_path_test_2: 'np-end-port',
  np_test_with_empty_port_range: 'np-end-port',
  onlineboutique_with_pods_severe_error: 'yaml-syntax',
};

test(
  'every folder of netpol-analyzer loads, and is invalid only where it is known to be (needs the outside cases)',
  needsCases,
  () => {
    const base = join(CASES, 'netpol-analyzer', 'tests');
    const folders = readdirSync(base);
    assert.ok(folders.length > 200);
    let policies = 0;
    for (const folder of folders) {
      const { world, diagnostics } = loadManifests([join(base, folder)]);
      const errors = new Set(diagnostics.filter(({ severity }) => severity === 'error').map(({ code }) => code));
      const expected = INVALID[folder];
      assert.deepEqual([...errors], expected === undefined ? [] : [expected], folder);
      for (const diagnostic of diagnostics) {
        assert.match(renderDiagnostic(diagnostic), /^\S.*: (error|warning): .+ \[[a-z-]+\]\n {2}\S/, folder);
        assert.ok(diagnostic.file !== null, folder);
      }
      policies += world.policies.size;
    }
    assert.ok(policies > 300, `${policies} policies`);
  },
);

test('every recipe loads without an error (needs the outside cases)', needsCases, () => {
  const base = join(CASES, 'network-policy-recipes');
  const files = readdirSync(base).filter((name) => name.endsWith('.yaml'));
  assert.ok(files.length >= 14);
  for (const file of files) {
    const { world, diagnostics } = loadManifests([join(base, file)]);
    assert.equal(isInvalid(diagnostics), false, file);
    const written = readFileSync(join(base, file), 'utf8').match(/^kind: NetworkPolicy$/gm)?.length ?? 0;
    assert.equal(world.policies.size, written, file);
  }
});

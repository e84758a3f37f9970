// netpol-analyzer's negative cases: each is met by a diagnostic of ours, or listed here with the reason why it is not.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { isInvalid, loadManifests } from '#cluster/load.ts';
import { CASES, needsCases } from './support/needs.ts';

/** Folder of the case → the code that it must be refused with, and a part of the message. */
const MET: Readonly<Record<string, { readonly code: string; readonly says: RegExp }>> = {
  'tests/np_bad_path_test_1': {
    code: 'object-duplicate',
    says: /default\/backend-netpol.*netpols\.yaml:24.*netpols\.yaml:1\b/,
  },
  'tests/np_bad_path_test_2': { code: 'np-end-port', says: /beside a port that is no number/ },
  'tests/np_test_with_empty_port_range': { code: 'np-end-port', says: /endPort 1 is below port 10/ },
  'tests/malformed_pod_example': { code: 'object-field', says: /found a list where a port number/ },
  'tests/malformed-pod-example-2': { code: 'object-field', says: /found a mapping where a list/ },
  'tests/bad_path_namespace_with_same_name': { code: 'object-duplicate', says: /Namespace blue/ },
};

const OTHER_DIALECT =
  'its mistake is in an AdminNetworkPolicy or BaselineAdminNetworkPolicy, which is not read yet: a warning says so';
const MULTI_NETWORK = 'multi-network (UserDefinedNetwork) is out of scope: a warning says that the kind is not read';
const UNLIKE_REPLICAS =
  'pods of one owner with unlike labels are fine here: policy is judged pod by pod, so nothing must be assumed of an owner';
const LEFT_OUT = 'a warning there and here: files without workloads, or without policies, are no mistake';
const ITS_OWN_FLAGS = 'it is about options of that tool, not about the manifests';

/** Folder (or its beginning, with a `*`) → why its expectation is not met. */
const NOT_MET: Readonly<Record<string, string>> = {
  'tests/semanticDiff-same-topologies-illegal-podlist': UNLIKE_REPLICAS,
  'tests/example_pods_w_same_owner_and_labels_gap_with_bad_match_expression': UNLIKE_REPLICAS,
  'tests/example_w_err_pods_w_same_owner_and_labels_gap_anp': UNLIKE_REPLICAS,
  'tests/anp_*': OTHER_DIALECT,
  'tests/banp_*': OTHER_DIALECT,
  'tests/udn_*': MULTI_NETWORK,
  'tests/cudn_*': MULTI_NETWORK,
  'tests/bad_yamls/irrelevant_k8s_resources.yaml': LEFT_OUT,
  'tests/no_netpols_dir': LEFT_OUT,
  'tests/onlineboutique_workloads': ITS_OWN_FLAGS,
};

type Negative = { readonly name: string; readonly dir: string; readonly exists: boolean };

test(
  'every negative case of netpol-analyzer is met or listed with a reason (needs the outside cases)',
  needsCases,
  () => {
    const base = join(CASES, 'netpol-analyzer');
    const cases = JSON.parse(readFileSync(join(base, 'negative.json'), 'utf8')) as Negative[];
    assert.ok(cases.length > 50);
    const used = new Set<string>();
    for (const { name, dir } of cases) {
      const expected = MET[dir];
      const { diagnostics } = loadManifests([join(base, dir)]);
      if (expected === undefined) {
        const reason = Object.keys(NOT_MET).find((key) =>
          key.endsWith('*') ? dir.startsWith(key.slice(0, -1)) : dir === key,
        );
        assert.ok(reason !== undefined, `${name} (${dir}) is neither met nor listed`);
        used.add(reason);
        continue;
      }
      used.add(dir);
      const found = diagnostics.filter(({ code, message }) => code === expected.code && expected.says.test(message));
      assert.equal(found.length, 1, `${name}: ${JSON.stringify(diagnostics)}`);
      assert.ok(isInvalid(diagnostics));
      assert.ok(found[0]?.file !== null && found[0]?.line !== null);
    }
    const unused = [...Object.keys(MET), ...Object.keys(NOT_MET)].filter((key) => !used.has(key));
    assert.deepEqual(unused, [], 'lists name no case that is gone');
  },
);

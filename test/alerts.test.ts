// The chart's alerts: each is of metrics that there are, fires where it should, and has a case.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { load } from 'js-yaml';
import { METRICS } from '#agent/metrics/catalogue.ts';
import { exposition } from '#agent/metrics/exposition.ts';
import { fieldsOf, itemsOf } from '#policy/fields.ts';
import { metricFacts } from './support/facts.ts';
import { needsPromtool, PROMTOOL } from './support/needs.ts';

const ALERTS = join(import.meta.dirname, '../deploy/helm/moat/files/alerts.yaml');
const CASES = join(import.meta.dirname, 'alerts.yaml');
const RULES = itemsOf(fieldsOf(load(readFileSync(ALERTS, 'utf8'))).groups)
  .flatMap((group) => itemsOf(fieldsOf(group).rules))
  .map(fieldsOf);

function promtool(args: readonly string[], input = ''): string {
  return execFileSync(PROMTOOL, args, { encoding: 'utf8', input, stdio: ['pipe', 'pipe', 'pipe'] });
}

test('each alert is of metrics and labels that there are, and has a case', () => {
  const cases = readFileSync(CASES, 'utf8');
  assert.ok(RULES.length > 10);
  for (const { alert, expr } of RULES) {
    const names = [...String(expr).matchAll(/moat_[a-z_]+/g)].map(([name]) => name.replace(/_bucket$/, ''));
    for (const name of names) {
      const metric = METRICS.find((each) => each.name === name);
      assert.ok(metric, `${alert}: ${name}`);
    }
    const labels = [...String(expr).matchAll(/(moat_[a-z_]+)\{([a-z]+)!?=~?/g)];
    for (const [, name, label = ''] of labels) {
      assert.ok(METRICS.find((each) => each.name === name)?.labels.includes(label), `${alert}: ${name}{${label}}`);
    }
    assert.ok(cases.includes(`alertname="${alert}"`), `${alert} has no case`);
  }
});

test('Prometheus takes the alerts, and each fires for its case and for no other', needsPromtool, () => {
  assert.match(promtool(['check', 'rules', ALERTS]), /SUCCESS/);
  assert.match(promtool(['test', 'rules', CASES]), /SUCCESS/);
});

test('Prometheus takes the page of metrics, and its linter has nothing to say', needsPromtool, () => {
  assert.equal(promtool(['check', 'metrics'], exposition(METRICS, metricFacts())), '');
});

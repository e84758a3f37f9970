// Metrics: the format, the conventions of names, what each is read from, and the page that lists them.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { FACTS, metricFacts } from '#test/support/facts.ts';
import { METRICS } from './catalogue.ts';
import { exposition, type Metric } from './exposition.ts';
import { Histogram } from './meters.ts';

const PAGE = readFileSync(join(import.meta.dirname, '../../../docs/metrics.md'), 'utf8');

/** The value of each line that is no comment, by what stands before it. */
function valuesOf(text: string): ReadonlyMap<string, number> {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]),
  );
}

test('each name keeps the conventions of Prometheus', () => {
  const names = METRICS.map(({ name }) => name);
  assert.equal(new Set(names).size, names.length);
  for (const { name, type, help, labels } of METRICS) {
    assert.match(name, /^(moat|process)_[a-z]+(_[a-z]+)*$/, name);
    assert.equal(name.endsWith('_total'), type === 'counter', `${name}: counters, and no others, end in _total`);
    assert.doesNotMatch(name, /_(count|sum|bucket|ms|milliseconds|kb|mb|percent)$/, name);
    assert.match(help, /^[A-Z1].*\.$/, `${name} has a sentence`);
    for (const label of labels) assert.match(label, /^[a-z]+$/, `${name}: ${label}`);
    assert.ok(type !== 'histogram' || name.endsWith('_seconds'), name);
  }
});

test('docs/metrics.md has each of them, as it is', () => {
  const rows = [...PAGE.matchAll(/^\| `([a-z_]+)` +\| (\w+) +\| ([^|]*?) +\| (.+?) +\|$/gm)].map(
    ([, ...cells]) => cells,
  );
  const labelText = (labels: readonly string[]): string => labels.map((label) => `\`${label}\``).join(', ');
  assert.deepEqual(
    rows.map((cells) => cells.map((cell) => cell.trim())),
    METRICS.map(({ name, type, labels, help }) => [name, type, labelText(labels), help]),
  );
});

test('every metric is in the text, with what it was read from', () => {
  const text = exposition(METRICS, metricFacts());
  const values = valuesOf(text);
  for (const { name } of METRICS)
    assert.ok(
      [...values.keys()].some((key) => key.startsWith(name)),
      `${name} has a value`,
    );
  const expected: Readonly<Record<string, number>> = {
    'moat_build_info{version="1.2.3",datapath="ebpf"}': 1,
    moat_ready: 1,
    'moat_check_ok{check="watch-Pod"}': 1,
    'moat_objects{kind="Pod",state="understood"}': 2,
    'moat_watch_last_event_timestamp_seconds{kind="Pod"}': 1,
    'moat_table_entries{table="ct_map"}': 9,
    'moat_table_capacity{table="ct_map"}': 10,
    'moat_packets_dropped_total{reason="policy"}': 1,
    'moat_packets_dropped_total{reason="denied-earlier"}': 18,
    'moat_packets_passed_total{direction="to_pod"}': 2,
    'moat_packets_shortcut_total{path="uplink_to_pod"}': 5,
    moat_flows_evicted_total: 7,
    moat_events_lost_total: 6,
    'moat_api_errors_total{code="403"}': 2,
    'moat_cni_calls_total{command="ADD",outcome="11"}': 1,
    'moat_cni_call_duration_seconds_bucket{command="ADD",le="0.025"}': 1,
    'moat_cni_call_duration_seconds_bucket{command="ADD",le="+Inf"}': 2,
    'moat_cni_call_duration_seconds_count{command="ADD"}': 2,
    'moat_cni_call_duration_seconds_sum{command="ADD"}': 5.02,
    'moat_apply_duration_seconds_bucket{le="0.0025"}': 0,
    'moat_apply_duration_seconds_bucket{le="0.005"}': 1,
    moat_log_lines_left_out_total: 8,
    'moat_kubernetes_events_total{outcome="written"}': 4,
    process_resident_memory_bytes: 9e7,
  };
  for (const [key, value] of Object.entries(expected)) assert.equal(values.get(key), value, key);
  assert.equal(text.includes('reason="none"'), false);
});

test('what is wrong shows', () => {
  const [watch] = FACTS.watches;
  assert.ok(watch);
  const lost = { ...watch, problem: '403', restarts: 3, heardMs: null };
  const agent = { ...FACTS, watches: [lost], known: 9, lacks: ['a', 'b'], shortages: ['c'], waits: ['d'] };
  const values = valuesOf(exposition(METRICS, metricFacts({ agent })));
  const expected: Readonly<Record<string, number>> = {
    moat_ready: 0,
    'moat_check_ok{check="watch-Pod"}': 0,
    'moat_check_ok{check="in-force"}': 0,
    'moat_check_ok{check="datapath"}': 1,
    'moat_watch_connected{kind="Pod"}': 0,
    'moat_watch_restarts_total{kind="Pod"}': 3,
    'moat_watch_last_event_timestamp_seconds{kind="Pod"}': 0,
    moat_changes_waiting: 2,
    moat_tables_full: 2,
    moat_namespace_shortages: 1,
    moat_new_pods_waiting_namespaces: 1,
  };
  for (const [key, value] of Object.entries(expected)) assert.equal(values.get(key), value, key);
});

test('labels and help are escaped, and each histogram adds up', () => {
  const histogram = new Histogram();
  for (const seconds of [0.001, 0.0011, 99]) histogram.observe(seconds);
  const { bounds, counts, sum } = histogram;
  const metrics: readonly Metric<null>[] = [
    { name: 'a', type: 'gauge', labels: ['l'], help: 'x\n\\', read: () => [{ values: ['"\n\\'], value: 1n }] },
    { name: 'b', type: 'histogram', labels: [], help: 'y', read: () => [{ values: [], bounds, counts, sum }] },
  ];
  const [help, type, sample, ...rest] = exposition(metrics, null).split('\n');
  assert.deepEqual([help, type, sample], ['# HELP a x\\n\\\\', '# TYPE a gauge', 'a{l="\\"\\n\\\\"} 1']);
  assert.equal(rest[2], 'b_bucket{le="0.001"} 1');
  assert.deepEqual(rest.slice(-4), ['b_bucket{le="+Inf"} 3', 'b_sum 99.0021', 'b_count 3', '']);
});

// The chart's ServiceMonitor and alerts are what the Prometheus operator reads: a real API server that has the operator's CRDs
// takes them, without a field too many, and refuses what is misspelt.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { load, loadAll } from 'js-yaml';
import { type Fields, fieldsOf, itemsOf } from '#policy/fields.ts';
import { ControlPlane } from '#test/support/control-plane.ts';
import { MONITORING_KINDS, needsMonitoringKinds } from '#test/support/needs.ts';
import { render } from '../tools/chart.ts';

const DEFINITIONS = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';
const NAMESPACE = '/apis/monitoring.coreos.com/v1/namespaces/kube-system';
const SERVED_LIMIT_MS = 30_000;

describe('the kinds of the Prometheus operator', needsMonitoringKinds, () => {
  let plane: ControlPlane;
  let objects: readonly Fields[] = [];

  before(async () => {
    plane = await ControlPlane.start();
    for (const name of readdirSync(MONITORING_KINDS))
      await plane.do('POST', DEFINITIONS, load(readFileSync(join(MONITORING_KINDS, name), 'utf8')));
    for (const path of ['servicemonitors', 'prometheusrules']) await served(`${NAMESPACE}/${path}`);
    objects = loadAll(render({ metrics: { port: 9798, serviceMonitor: true, alerts: true } })).map(fieldsOf);
  });
  after(() => plane?.close());

  async function served(path: string): Promise<void> {
    for (const end = performance.now() + SERVED_LIMIT_MS; performance.now() < end; await pause(100))
      if ((await plane.ask('GET', path)).status === 200) return;
    assert.fail(`${path} is not served`);
  }

  const of = (kind: string): Fields => fieldsOf(objects.find((each) => each.kind === kind));
  /** The status, and why. */
  const put = async (path: string, object: Fields): Promise<string> => {
    const { status, text } = await plane.ask('POST', `${NAMESPACE}/${path}?fieldValidation=Strict&dryRun=All`, object);
    return `${status} ${status === 201 ? '' : fieldsOf(JSON.parse(text)).message}`.trim();
  };

  it('take the chart’s ServiceMonitor, and no field that they do not have', async () => {
    const monitor = of('ServiceMonitor');
    assert.equal(await put('servicemonitors', monitor), '201');
    const endpoints = [{ port: 'metrics', portt: 'metrics' }];
    const misspelt = { ...monitor, spec: { ...fieldsOf(monitor.spec), endpoints } };
    assert.match(await put('servicemonitors', misspelt), /^400 .*unknown field "spec.endpoints\[0\].portt"/);
    const wrong = { ...monitor, spec: { ...fieldsOf(monitor.spec), endpoints: [{ port: 9798 }] } };
    assert.match(await put('servicemonitors', wrong), /^422 .*spec.endpoints\[0\].port.*must be of type string/);
  });

  it('take the chart’s alerts, and no rule of another form', async () => {
    const rule = of('PrometheusRule');
    assert.equal(await put('prometheusrules', rule), '201');
    const [group] = itemsOf(fieldsOf(rule.spec).groups).map(fieldsOf);
    const [first, ...rest] = itemsOf(group?.rules).map(fieldsOf);
    const withFirst = (changed: object): Fields => ({
      ...rule,
      spec: { groups: [{ ...group, rules: [{ ...first, ...changed }, ...rest] }] },
    });
    assert.match(await put('prometheusrules', withFirst({ For: '1m' })), /^400 .*unknown field "spec.groups\[0\]/);
    assert.match(await put('prometheusrules', withFirst({ for: 'a while' })), /^422 .*spec.groups\[0\].rules\[0\].for/);
  });

  it('find the agents’ metrics by the labels and the port of the Service that the chart makes', () => {
    const [monitor, service] = [of('ServiceMonitor'), of('Service')];
    const { matchLabels } = fieldsOf(fieldsOf(monitor.spec).selector);
    const labels = fieldsOf(fieldsOf(service.metadata).labels);
    for (const [name, value] of Object.entries(fieldsOf(matchLabels))) assert.equal(labels[name], value, name);
    const [endpoint] = itemsOf(fieldsOf(monitor.spec).endpoints).map(fieldsOf);
    assert.ok(itemsOf(fieldsOf(service.spec).ports).some((port) => fieldsOf(port).name === endpoint?.port));
    assert.equal(labels[String(fieldsOf(monitor.spec).jobLabel)], 'moat', 'what the alerts call the job');
  });
});

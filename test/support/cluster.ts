// A sandbox for one test: manifests from text, everything removed afterwards, whatever happened.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { FlowEvent } from '#agent/protocol.ts';
import { TCP } from '#net/protocol.ts';
import type { SandboxEvent, SandboxOptions } from '#sandbox/api.ts';
import type { ProbeResult } from '#sandbox/probe.ts';
import type { ProbeRow } from '#sandbox/probe-judge.ts';
import { type Sandbox, startSandbox } from '#sandbox/sandbox.ts';
import { sabotageAsAsked } from './sabotage.ts';

export const TCP_80: { readonly protocol: number; readonly port: number } = { protocol: TCP, port: 80 };

export type TestCluster = {
  readonly sandbox: Sandbox;
  readonly folder: string;
  readonly events: readonly SandboxEvent[];
  /** Writes a manifest into the folder. */
  readonly write: (file: string, text: string) => string;
};

let made = 0;

/** A name that no other test has. */
export function instanceName(): string {
  made++;
  return `t${process.pid}x${made}`;
}

/** Brings a sandbox up from texts by file name; it goes down when the test ends. */
export async function clusterOf(
  context: TestContext,
  files: Readonly<Record<string, string>>,
  options: Partial<SandboxOptions> = {},
): Promise<TestCluster> {
  const folder = mkdtempSync(join(tmpdir(), 'moat-test-'));
  const write = (file: string, text: string): string => {
    writeFileSync(join(folder, file), text);
    return join(folder, file);
  };
  for (const [file, text] of Object.entries(files)) write(file, text);
  context.after(() => rmSync(folder, { recursive: true, force: true }));
  const events: SandboxEvent[] = [];
  const onEvent = (event: SandboxEvent): void => void events.push(event);
  const sandbox = await startSandbox({ name: instanceName(), paths: [folder], onEvent, ...options });
  context.after(() => sandbox.down());
  await sabotageAsAsked(sandbox);
  return { sandbox, folder, events, write };
}

export type PodText = {
  readonly namespace?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly node?: string;
};

/** A pod's manifest, as a document of its own. */
export function podText(name: string, { namespace = 'shop', labels = { app: name }, node }: PodText = {}): string {
  const spec = { ...(node === undefined ? {} : { nodeName: node }), containers: [{ name: 'main', image: 'none' }] };
  return `---\n${JSON.stringify({ apiVersion: 'v1', kind: 'Pod', metadata: { namespace, name, labels }, spec })}\n`;
}

/** A NetworkPolicy of the namespace `shop`, as a document of its own; `spec` is YAML without indentation. */
export function policyText(name: string, spec: string): string {
  const lines = spec
    .trim()
    .split('\n')
    .map((line) => `  ${line}`);
  const head = ['---', 'apiVersion: networking.k8s.io/v1', 'kind: NetworkPolicy'];
  return `${[...head, `metadata: {namespace: shop, name: ${name}}`, 'spec:', ...lines].join('\n')}\n`;
}

/** The one row of a pair and port; fails where the probe has none, and says why. */
export function rowOf(result: ProbeResult, from: string, to: string, port = 80): ProbeRow {
  const row = result.rows.find((one) => one.from === from && one.to === to && one.port === port);
  assert.ok(row, `${from} → ${to}: ${JSON.stringify(result.errors)}`);
  return row;
}

/** Every flow event so far. */
export function flowsOf(events: readonly SandboxEvent[]): readonly FlowEvent[] {
  return events.flatMap((event) => (event.kind === 'flows' ? event.events : []));
}

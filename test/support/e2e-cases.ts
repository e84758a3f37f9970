// The Kubernetes e2e NetworkPolicy cases (48 cases, 4 680 cells) as worlds and expected cells, for whoever judges them:
// the interpreter, the reference datapath, real packets.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildWorld } from '#cluster/world/build.ts';
import { type Address, parseAddress } from '#net/address.ts';
import { type Protocol, protocolNumber } from '#net/protocol.ts';
import type { SourceObject } from '#policy/object.ts';
import type { PodKey, World } from '#policy/world.ts';

/** One state of a case: objects, the world they make, and what each pair of pods must see. */
export type E2eStep = {
  /** `case name, step 1 of 2`. */
  readonly name: string;
  readonly objects: readonly SourceObject[];
  readonly world: World;
  readonly protocol: Protocol;
  readonly port: number;
  readonly cells: readonly E2eCell[];
};

/** Pods to themselves are not among the cells: the suite does not judge them. */
export type E2eCell = {
  readonly from: PodKey;
  readonly to: PodKey;
  readonly fromAddress: Address;
  readonly toAddress: Address;
  readonly allowed: boolean;
};

type Labels = Readonly<Record<string, string>>;
type CasePod = {
  readonly namespace: string;
  readonly name: string;
  readonly labels: Labels;
  readonly ip: string;
  readonly ports: readonly { readonly name: string; readonly port: number; readonly protocol: string }[];
};
type CaseStep = {
  readonly policies: readonly unknown[];
  readonly port: number;
  readonly protocol: string;
  readonly extraPodLabels: Readonly<Record<string, Labels>>;
  readonly extraNamespaceLabels: Readonly<Record<string, Labels>>;
  readonly expected: Readonly<Record<string, string>>;
};
type CaseFile = {
  readonly cluster: {
    readonly namespaces: Readonly<Record<string, Labels>>;
    readonly pods: readonly CasePod[];
    readonly columnOrder: readonly string[];
  };
  readonly cases: readonly { readonly name: string; readonly steps: readonly CaseStep[] }[];
};

/** Reads the cases below the folder of all cases. */
export function readE2eSteps(casesFolder: string): readonly E2eStep[] {
  const file = JSON.parse(readFileSync(join(casesFolder, 'k8s-e2e-netpol', 'cases.json'), 'utf8')) as CaseFile;
  return file.cases.flatMap(({ name, steps }) =>
    steps.map((step, index) => stepOf(file, step, `${name}, step ${index + 1} of ${steps.length}`)),
  );
}

function stepOf({ cluster }: CaseFile, step: CaseStep, name: string): E2eStep {
  const objects = [
    ...Object.entries(cluster.namespaces).map(([namespace, labels]) =>
      objectOf({
        apiVersion: 'v1',
        kind: 'Namespace',
        metadata: { name: namespace, labels: { ...labels, ...step.extraNamespaceLabels[namespace] } },
      }),
    ),
    ...cluster.pods.map((pod) => objectOf(podManifest(pod, step.extraPodLabels[`${pod.namespace}/${pod.name}`] ?? {}))),
    ...step.policies.map((policy) => objectOf(policy as Manifest)),
  ];
  const { world, diagnostics } = buildWorld(objects);
  const errors = diagnostics.filter(({ severity }) => severity === 'error');
  if (errors.length > 0) throw new Error(`${name}: ${errors.map(({ message }) => message).join('; ')}`);
  const protocol = protocolNumber(step.protocol) ?? 0;
  return { name, objects, world, protocol, port: step.port, cells: cellsOf(cluster, step.expected) };
}

function cellsOf({ pods, columnOrder }: CaseFile['cluster'], expected: CaseStep['expected']): E2eCell[] {
  const addresses = new Map(pods.map(({ namespace, name, ip }) => [`${namespace}/${name}`, parseAddress(ip)]));
  return Object.entries(expected).flatMap(([from, row]) =>
    columnOrder.flatMap((to, column) => {
      const fromAddress = addresses.get(from) ?? null;
      const toAddress = addresses.get(to) ?? null;
      if (fromAddress === null || toAddress === null) throw new Error(`no pod ${from} or ${to}`);
      const cell = { from: from as PodKey, to: to as PodKey, fromAddress, toAddress, allowed: row[column] === '.' };
      return from === to ? [] : [cell];
    }),
  );
}

type Manifest = {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly labels?: Labels };
};

function objectOf(manifest: Manifest): SourceObject {
  const { apiVersion, kind, metadata } = manifest;
  return {
    apiVersion,
    kind,
    namespace: metadata.namespace ?? '',
    name: metadata.name,
    content: manifest,
    origin: null,
  };
}

function podManifest(pod: CasePod, extraLabels: Labels): Manifest & { spec: unknown; status: unknown } {
  const ports = pod.ports.map(({ name, port, protocol }) => ({ name, containerPort: port, protocol }));
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      namespace: pod.namespace,
      name: pod.name,
      labels: { ...pod.labels, ...extraLabels },
    },
    spec: { containers: [{ name: 'serve', ports }] },
    status: { phase: 'Running', podIP: pod.ip },
  };
}

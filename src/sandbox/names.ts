// Names of everything a sandbox makes: each carries the instance, so that two sandboxes live side by side.
import { SandboxError } from './error.ts';

/** Where namespaces made by `ip netns` appear. */
const NETNS_FOLDER = '/run/netns';
/** Parent of the state folders; `MOAT_RUN` moves it (a test's own place). */
const RUN_FOLDER = '/run/moat';

/** Code of agents, ready to run; root alone can write there. No sandbox can have this name. */
export const COMPILE_CACHE: string = `${RUN_FOLDER}/.compile-cache`;

/** The interface of a pod, inside it. */
export const POD_INTERFACE = 'eth0';
/** A node's interface to the fabric, inside the node. */
export const UPLINK_INTERFACE = 'uplink';

/** Refuses names that could be taken for another sandbox's: no dash, or `a` would own what `a-b` made. */
export function checkInstanceName(name: string): string {
  if (/^[a-z0-9]{1,16}$/.test(name)) return name;
  throw new SandboxError('name', `'${name}' can't name a sandbox`, 'use 1 to 16 lower-case letters and digits');
}

/** What every namespace of an instance begins with. */
export function netnsPrefix(instance: string): string {
  return `moat-${instance}-`;
}

/** A node's namespace. Names that a pod's or the outside world's namespace could have are refused. */
export function nodeNetns(instance: string, node: string): string {
  const name = `${netnsPrefix(instance)}${node}`;
  const taken = /^(p\d+|world)$/.test(node);
  // Names of pins end at 63 bytes, and so does a DNS label.
  if (!taken && node.length <= 63 && /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/.test(node)) return name;
  const problem = taken ? 'is a name the sandbox keeps for itself' : 'is not a valid node name';
  throw new SandboxError('node-name', `node '${node}' ${problem}`, 'rename the node in the manifests');
}

export function podNetns(instance: string, index: number): string {
  return `${netnsPrefix(instance)}p${index}`;
}

export function worldNetns(instance: string): string {
  return `${netnsPrefix(instance)}world`;
}

/** The file that stands for a namespace. */
export function netnsPath(name: string): string {
  return `${NETNS_FOLDER}/${name}`;
}

/** The node's side of a pod's link. */
export function hostInterface(index: number): string {
  return `p${index}`;
}

/** The fabric's side of a node's uplink. */
export function fabricInterface(index: number): string {
  return `n${index}`;
}

/** A locally administered hardware address: `kind` keeps pods, their gateways and uplinks apart. */
export function hardwareAddress(kind: 'pod' | 'gateway' | 'uplink' | 'fabric', index: number): string {
  const first = { pod: 0x02, gateway: 0x06, uplink: 0x0a, fabric: 0x0e }[kind];
  return [first, 0x6d, (index >>> 24) & 255, (index >>> 16) & 255, (index >>> 8) & 255, index & 255]
    .map((byte) => byte.toString(16).padStart(2, '0'))
    .join(':');
}

/** Files of one sandbox: all of them in one folder that root alone can enter. */
export type StatePaths = {
  readonly folder: string;
  /** Who holds the sandbox, as JSON. */
  readonly owner: string;
  /** Commands: apply, probe, status, down. */
  readonly control: string;
  /** The cluster source that agents read. */
  readonly cluster: string;
  /** What a detached sandbox has to say. */
  readonly log: string;
  readonly agent: (node: string) => string;
  readonly agentLog: (node: string) => string;
};

export function statePaths(instance: string): StatePaths {
  const folder = `${runFolder()}/${checkInstanceName(instance)}`;
  return {
    folder,
    owner: `${folder}/owner.json`,
    control: `${folder}/control.sock`,
    cluster: `${folder}/cluster.sock`,
    log: `${folder}/sandbox.log`,
    agent: (node) => `${folder}/agent-${node}.sock`,
    agentLog: (node) => `${folder}/agent-${node}.log`,
  };
}

export function runFolder(): string {
  return process.env.MOAT_RUN ?? RUN_FOLDER;
}

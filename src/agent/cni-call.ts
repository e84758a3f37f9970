// A CNI call as the specification (1.1) has it, read field by field: environment and configuration come from outside.
import { type AddressKey, formatAddress, parseAddress } from '#net/address.ts';
import { type AttachmentId, attachmentId } from '#network/attachments.ts';
import { type Fields, fieldsOf, isAbsent, isFields, show } from '#policy/fields.ts';
import { causesOf } from './causes.ts';
import type { CniCall } from './protocol.ts';

/** Codes of the specification; from 100 on they are a plugin's own. */
export const CNI_CODE = {
  version: 1,
  unknownContainer: 3,
  environment: 4,
  disk: 5,
  json: 6,
  config: 7,
  tryLater: 11,
  cannotAdd: 50,
  limited: 51,
  link: 100,
  check: 101,
} as const;

/** A call that fails: what the runtime is told. */
export class CniError extends Error {
  readonly code: number;
  readonly details: string | null;

  constructor(code: keyof typeof CNI_CODE, message: string, cause?: unknown) {
    super(message, { cause });
    this.name = 'CniError';
    this.code = CNI_CODE[code];
    this.details = cause instanceof Error ? causesOf(cause) : null;
  }
}

export const VERSIONS = ['0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;
export type Version = (typeof VERSIONS)[number];

/** What the plugins before this one made: their result, to be passed on as it is, and the pod's addresses by it. */
export type Previous = { readonly result: Fields; readonly addresses: readonly AddressKey[] };

/** Which attachment a call is about. */
type Subject = { readonly id: AttachmentId; readonly containerId: string; readonly ifname: string };
export type Add = Subject & {
  readonly command: 'ADD';
  readonly netns: string;
  readonly pod: { readonly namespace: string; readonly name: string; readonly uid: string };
  /** Null where this plugin makes the link itself. */
  readonly previous: Previous | null;
};
export type Del = Subject & { readonly command: 'DEL' };
/** `expected`: the addresses, with their lengths, that the result of ADD told; null where the runtime keeps none. */
export type Check = Subject & {
  readonly command: 'CHECK';
  readonly netns: string;
  readonly expected: readonly string[] | null;
};
export type Gc = { readonly command: 'GC'; readonly valid: ReadonlySet<AttachmentId> };
/** `chained`: others make the links and give the addresses. */
export type Status = { readonly command: 'STATUS'; readonly chained: boolean };
export type Call = { readonly version: Version } & (Add | Del | Check | Gc | Status);

/** The first version that has a command. */
const SINCE: Readonly<Record<string, Version>> = {
  ADD: '0.3.1',
  DEL: '0.3.1',
  CHECK: '0.4.0',
  GC: '1.1.0',
  STATUS: '1.1.0',
};

/** The version that a call asks for, as far as it can be told; errors are answered in it, too. */
export function versionOf(config: Fields): Version | null {
  return VERSIONS.find((version) => version === config.cniVersion) ?? null;
}

/** The configuration as an object. Throws CniError. */
export function readConfig(text: string): Fields {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new CniError('json', 'the network configuration is not JSON', cause);
  }
  if (isFields(value)) return value;
  throw new CniError('json', 'the network configuration is not a JSON object');
}

/** Reads a call; `config` is its configuration. Throws CniError. */
export function readCall(call: CniCall, config: Fields): Call {
  const version = versionOf(config);
  if (version === null) {
    const message = `cniVersion is ${show(config.cniVersion)}; known are ${VERSIONS.join(', ')}`;
    throw new CniError('version', message);
  }
  const since = SINCE[call.command];
  if (since === undefined) throw new CniError('environment', `CNI_COMMAND is ${show(call.command)}`);
  if (VERSIONS.indexOf(version) < VERSIONS.indexOf(since)) {
    throw new CniError('version', `${call.command} needs cniVersion ${since}, and the network's is ${version}`);
  }
  if (typeof config.name !== 'string' || config.name === '') throw new CniError('config', 'the network has no name');
  return { version, ...readCommand(call, config) };
}

function readCommand(call: CniCall, config: Fields): Add | Del | Check | Gc | Status {
  const chained = readChained(config.chained);
  switch (call.command) {
    case 'ADD': {
      const [subject, netns] = [readSubject(call), readNetns(call.netns)];
      const previous = readPrevious(config.prevResult, chained, { netns, ifname: subject.ifname });
      return { command: 'ADD', ...subject, netns, pod: readPod(call.args), previous };
    }
    case 'DEL':
      return { command: 'DEL', ...readSubject(call) };
    case 'CHECK': {
      const expected = expectedOf(config.prevResult);
      return { command: 'CHECK', ...readSubject(call), netns: readNetns(call.netns), expected };
    }
    case 'GC':
      return { command: 'GC', valid: readValid(config['cni.dev/valid-attachments']) };
    default:
      return { command: 'STATUS', chained };
  }
}

/** The same names as cni/moat-cni.c takes for its spool. */
function isName(text: string, most: number): boolean {
  return text.length <= most && /^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(text);
}

function readSubject({ containerId, ifname }: CniCall): Subject {
  if (!isName(containerId, 200)) throw new CniError('environment', `CNI_CONTAINERID is ${show(containerId)}`);
  if (!isName(ifname, 15)) throw new CniError('environment', `CNI_IFNAME is ${show(ifname)}`);
  return { id: attachmentId(containerId, ifname), containerId, ifname };
}

/** It becomes a word of a command: nothing in it may end the word. */
function readNetns(netns: string): string {
  if (netns.length <= 255 && /^\/[A-Za-z0-9_./-]+$/.test(netns)) return netns;
  throw new CniError('environment', `CNI_NETNS is ${show(netns)}, and the path of a network namespace is needed`);
}

function readPod(args: string): Add['pod'] {
  const pod = namedPod(args);
  if (pod !== null) return pod;
  throw new CniError('environment', `CNI_ARGS names no pod of Kubernetes: ${show(args)}`);
}

/** What container runtimes say of a Kubernetes pod: `K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-0;K8S_POD_UID=…`. Null where it is none. */
export function namedPod(args: string): Add['pod'] | null {
  const said = new Map(args.split(';').map((pair) => pairOf(pair)));
  const namespace = said.get('K8S_POD_NAMESPACE') ?? '';
  const name = said.get('K8S_POD_NAME') ?? '';
  const uid = said.get('K8S_POD_UID') ?? '';
  const isObject = (text: string): boolean => text.length <= 253 && /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/.test(text);
  if (isObject(namespace) && isObject(name) && /^[A-Za-z0-9-]{0,64}$/.test(uid)) return { namespace, name, uid };
  return null;
}

function pairOf(pair: string): [string, string] {
  const at = pair.indexOf('=');
  return at < 0 ? [pair, ''] : [pair.slice(0, at), pair.slice(at + 1)];
}

function readChained(value: unknown): boolean {
  if (isAbsent(value) || typeof value === 'boolean') return value === true;
  throw new CniError('config', `'chained' is ${show(value)}, and true or false is expected`);
}

/** Both are said, and must agree: a list that lost its first plugin must not have Moat make links, nor the other way round. */
function readPrevious(result: unknown, chained: boolean, of: { netns: string; ifname: string }): Previous | null {
  if (!chained) {
    if (isAbsent(result)) return null;
    const why = "this plugin makes the interface, so it comes first (where another makes it: 'chained' is to be true)";
    throw new CniError('config', `prevResult is set: ${why}`);
  }
  if (!isFields(result)) {
    throw new CniError(
      'config',
      "'chained' is true, and there is no prevResult: a plugin before this one makes the link",
    );
  }
  return { result, addresses: addressesOf(result, of) };
}

/** Of the interface that is attached; an address that names no interface is taken for its. */
function addressesOf(
  result: Fields,
  { netns, ifname }: { readonly netns: string; readonly ifname: string },
): readonly AddressKey[] {
  const { ips, interfaces } = result;
  if (!Array.isArray(ips)) throw new CniError('config', 'prevResult has no list of ips');
  const all: readonly unknown[] = Array.isArray(interfaces) ? interfaces : [];
  const isOurs = (at: unknown): boolean => {
    const { name, sandbox } = isAbsent(at) ? { name: ifname, sandbox: netns } : fieldsOf(all[Number(at)]);
    return name === ifname && sandbox === netns;
  };
  const own = ips.map(fieldsOf).filter((ip) => isOurs(ip.interface));
  if (own.length === 0) throw new CniError('config', `prevResult has no address of ${ifname} in ${netns}`);
  return own.map(({ address }) => {
    const parsed = typeof address === 'string' ? parseAddress(address.split('/')[0] ?? '') : null;
    if (parsed === null) throw new CniError('config', `prevResult has the address ${show(address)}`);
    return formatAddress(parsed);
  });
}

function expectedOf(prevResult: unknown): readonly string[] | null {
  if (isAbsent(prevResult)) return null;
  const { ips } = fieldsOf(prevResult);
  if (!Array.isArray(ips)) throw new CniError('config', 'prevResult has no list of ips');
  return ips.map((ip) => String(fieldsOf(ip).address));
}

/** A list that is absent or broken is not an empty one: nobody's pods are taken away for it. */
function readValid(value: unknown): ReadonlySet<AttachmentId> {
  if (!Array.isArray(value)) throw new CniError('config', "'cni.dev/valid-attachments' is not a list");
  return new Set(
    value.map((item) => {
      const { containerID, ifname } = fieldsOf(item);
      if (typeof containerID === 'string' && typeof ifname === 'string') return attachmentId(containerID, ifname);
      throw new CniError('config', `'cni.dev/valid-attachments' has ${show(item)}`);
    }),
  );
}

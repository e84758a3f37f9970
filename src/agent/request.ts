// What an agent may be asked, read field by field: whoever writes to the socket is not trusted to know the protocol.
import type { PodKey } from '#policy/world.ts';
import type { AgentRequest, AttachRequest, CniCall } from './protocol.ts';

/** More endpoints than a node can have in one request are a mistake. */
const ENDPOINT_LIMIT = 4096;
/** Longer than this is no emergency: it is asked for again. */
const LONGEST_BYPASS_MS = 24 * 3_600_000;
const LONGEST_NAME = 128;
const MAX_INTERFACE = 0x7fff_ffff;
const MAC = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i;

/** Reads a request whose `id` and `method` are known to be there. Throws with the field, what was found and what belongs there. */
export function readRequest(value: { readonly id: number; readonly method: string }): AgentRequest {
  const { id, method } = value;
  const fields = value as Readonly<Record<string, unknown>>;
  switch (method) {
    case 'attach':
      return { id, method, endpoints: listOf(fields.endpoints, 'endpoints', readEndpoint) };
    case 'detach':
      return { id, method, interfaces: listOf(fields.interfaces, 'interfaces', readInterface) };
    case 'cni':
      return { id, method, call: readCniCall(fields) };
    case 'bypass':
      return {
        id,
        method,
        forMs: readTime(fields.forMs, 'forMs'),
        by: readText(fields.by, 'by').slice(0, LONGEST_NAME),
      };
    case 'status':
    case 'subscribe':
      return { id, method };
    default:
      throw wrong('method', method, 'attach, detach, cni, bypass, status or subscribe');
  }
}

function readEndpoint(value: unknown, path: string): AttachRequest {
  if (typeof value !== 'object' || value === null) throw wrong(path, value, 'an object');
  const fields = value as Readonly<Record<string, unknown>>;
  const mac = readText(fields.mac, `${path}.mac`);
  if (!MAC.test(mac)) throw wrong(`${path}.mac`, mac, 'six bytes, as 02:00:00:00:00:01');
  return {
    pod: readText(fields.pod, `${path}.pod`) as PodKey,
    interfaceIndex: readInterface(fields.interfaceIndex, `${path}.interfaceIndex`),
    mac,
    addresses: listOf(fields.addresses, `${path}.addresses`, readText),
  };
}

function readCniCall(fields: Readonly<Record<string, unknown>>): CniCall {
  return {
    command: readText(fields.command, 'command'),
    containerId: readText(fields.containerId, 'containerId'),
    netns: readText(fields.netns, 'netns'),
    ifname: readText(fields.ifname, 'ifname'),
    args: readText(fields.args, 'args'),
    config: readText(fields.config, 'config'),
  };
}

function readInterface(value: unknown, path: string): number {
  if (Number.isInteger(value) && Number(value) > 0 && Number(value) <= MAX_INTERFACE) return Number(value);
  throw wrong(path, value, 'the index of an interface');
}

function readTime(value: unknown, path: string): number {
  if (Number.isSafeInteger(value) && Number(value) >= 0 && Number(value) <= LONGEST_BYPASS_MS) return Number(value);
  throw wrong(path, value, `a number of milliseconds up to ${LONGEST_BYPASS_MS}`);
}

function readText(value: unknown, path: string): string {
  if (typeof value === 'string') return value;
  throw wrong(path, value, 'text');
}

function listOf<T>(value: unknown, path: string, read: (value: unknown, path: string) => T): readonly T[] {
  if (!Array.isArray(value)) throw wrong(path, value, 'a list');
  if (value.length > ENDPOINT_LIMIT) throw wrong(path, `${value.length} elements`, `at most ${ENDPOINT_LIMIT}`);
  return value.map((each, index) => read(each, `${path}[${index}]`));
}

function wrong(path: string, found: unknown, wanted: string): Error {
  // A list in a list in a list may be deeper than the stack.
  const shown = Array.isArray(found) ? 'a list' : typeof found === 'object' && found !== null ? 'an object' : null;
  const text = shown ?? (JSON.stringify(found) ?? 'nothing').slice(0, 80);
  return new Error(`request: ${path} is ${text}, and ${wanted} is expected`);
}

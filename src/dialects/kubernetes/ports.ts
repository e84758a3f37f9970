// NetworkPolicyPort → Port: protocol, number, range or name.
import { type Protocol, SCTP, TCP, UDP } from '#net/protocol.ts';
import { describe, isAbsent, show } from '#policy/fields.ts';
import type { Port, Ports } from '#policy/model.ts';
import { portNameFault } from './names.ts';
import {
  complain,
  complainType,
  fieldAt,
  type Located,
  nullItemAsEmpty,
  type Reader,
  readList,
  readMapping,
} from './reader.ts';

/** Absent, null and empty lists mean any protocol and port. Null where any part is not understood. */
export function readPorts(reader: Reader, at: Located): Ports | null {
  const items = readList(reader, at);
  if (items === null) return null;
  if (items === 'absent' || items.length === 0) return { kind: 'any' };
  const ports = items.map((item) => readPort(reader, item)).filter((port) => port !== null);
  return ports.length === items.length ? { kind: 'these', ports } : null;
}

function readPort(reader: Reader, at: Located): Port | null {
  const mapping = readMapping(reader, nullItemAsEmpty(reader, at), ['protocol', 'port', 'endPort']);
  if (mapping === null) return null;
  const protocol = readProtocol(reader, fieldAt(mapping, 'protocol'));
  const port = fieldAt(mapping, 'port');
  const endPort = fieldAt(mapping, 'endPort');
  if (typeof port.value === 'number') return readRange(reader, { protocol, port, endPort });
  if (!isAbsent(endPort.value)) {
    return complain(reader, endPort.path, {
      code: 'np-end-port',
      message: isAbsent(port.value) ? 'endPort stands without port' : 'endPort stands beside a port that is no number',
      hint: 'Give port the first number of the range, or remove endPort.',
    });
  }
  if (isAbsent(port.value)) return protocol === null ? null : { kind: 'range', protocol, first: 0, last: 65535 };
  if (typeof port.value !== 'string') return complainType(reader, port, 'the number or the name of a port');
  return readName(reader, protocol, { name: port.value, path: port.path });
}

function readProtocol(reader: Reader, { value, path }: Located): Protocol | null {
  if (isAbsent(value) || value === 'TCP') return TCP;
  if (value === 'UDP') return UDP;
  if (value === 'SCTP') return SCTP;
  return complain(reader, path, {
    code: 'np-protocol',
    message: `found ${describe(value)} where a protocol is expected`,
    hint: 'Use TCP, UDP or SCTP, in capitals; absent means TCP.',
  });
}

type RangeFields = { readonly protocol: Protocol | null; readonly port: Located; readonly endPort: Located };

function readRange(reader: Reader, { protocol, port, endPort }: RangeFields): Port | null {
  const first = readNumber(reader, port);
  const last = isAbsent(endPort.value) ? first : readNumber(reader, endPort);
  if (first === null || last === null) return null;
  if (last < first) {
    return complain(reader, endPort.path, {
      code: 'np-end-port',
      message: `endPort ${last} is below port ${first}`,
      hint: 'Write the smaller number in port, the larger in endPort.',
    });
  }
  return protocol === null ? null : { kind: 'range', protocol, first, last };
}

function readNumber(reader: Reader, { value, path }: Located): number | null {
  if (typeof value !== 'number') return complainType(reader, { value, path }, 'the number of a port');
  if (Number.isInteger(value) && value >= 1 && value <= 65535) return value;
  return complain(reader, path, {
    code: 'np-port-range',
    message: `${value} is no port number`,
    hint: 'Use a whole number from 1 to 65535.',
  });
}

function readName(reader: Reader, protocol: Protocol | null, found: { name: string; path: string }): Port | null {
  const { name, path } = found;
  const fault = portNameFault(name);
  if (fault === null) return protocol === null ? null : { kind: 'named', protocol, name };
  const digits = /^\d+$/.test(name);
  return complain(reader, path, {
    code: 'np-port-name',
    message: `the port name ${show(name)} ${fault}`,
    hint: digits ? `Write ${Number(name)} without quotes.` : 'Use the name of a container port, or its number.',
  });
}

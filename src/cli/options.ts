// Options that several commands share, and what their values mean.
import { type Command, InvalidArgumentError, Option } from 'commander';
import { type Address, parseAddress } from '#net/address.ts';
import { ICMP, type Protocol, protocolNumber, SCTP, TCP, UDP } from '#net/protocol.ts';
import type { Mode, Semantics } from '#policy/world.ts';

/** What `inputOptions` adds. */
export type InputOptions = {
  readonly filename: readonly string[];
  readonly lenient: boolean;
  readonly ipblockPods: 'on' | 'off';
  readonly mode: 'annotated' | Mode;
};

/** A protocol and port to try; for ICMP an echo request. */
export type PortOption = { readonly protocol: Protocol; readonly port: number };

/** An ICMP echo request on the axis: type 8, code 0. */
export const ICMP_ECHO: number = 8 << 8;

/** `-f`, `--lenient`, `--ipblock-pods`, `--mode`: for every command that judges by manifests. */
export function inputOptions(command: Command): Command {
  return semanticsOption(manifestOptions(command));
}

/** `-f` and `--lenient` alone: where it is settled already what policies mean. */
export function manifestOptions(command: Command): Command {
  const file = new Option(FILE_FLAGS, 'a manifest, a folder of them, or - for stdin (repeatable)').argParser(collect);
  return lenientOption(command.addOption(file.makeOptionMandatory()));
}

/** The same, where `-f` may be left out. */
export function inputOptionsOr(command: Command, fallback: string): Command {
  const file = new Option(FILE_FLAGS, 'a manifest or a folder of them (repeatable)').argParser(collect);
  return semanticsOption(lenientOption(command.addOption(file.default(undefined, fallback))));
}

const FILE_FLAGS = '-f, --filename <path>';

function lenientOption(command: Command): Command {
  return command.option('--lenient', 'take invalid objects as a live cluster would, instead of refusing them', false);
}

/** `--ipblock-pods` and `--mode`: what policies mean. */
export function semanticsOption(command: Command): Command {
  return command
    .addOption(
      new Option('--ipblock-pods <on|off>', "whether a NetworkPolicy's ipBlock matches pod addresses")
        .choices(['on', 'off'])
        .default('on'),
    )
    .addOption(
      new Option(
        '--mode <mode>',
        'what becomes of what policy denies: it is dropped (enforce), or passes and is told (audit), everywhere; or as each namespace says (annotated)',
      )
        .choices(['annotated', 'enforce', 'audit'])
        .default('annotated'),
    );
}

/** `-o`, with the formats that the command has; the first is the default. */
export function outputOption(command: Command, formats: readonly [string, ...string[]]): Command {
  return command.addOption(new Option('-o, --output <format>', 'format').choices(formats).default(formats[0]));
}

/** `--datapath`; the first name is the default. */
export function datapathOption(summary: string, names: readonly [string, ...string[]]): Option {
  const option = new Option('--datapath <name>', summary).choices(names).default(names[0]);
  return option.argParser((name) => {
    if (names.includes(name)) return name;
    const what = name === 'nftables' ? 'This datapath is not built yet. ' : '';
    throw new InvalidArgumentError(`${what}Use ${names.join(' or ')}.`);
  });
}

export function semanticsOf({ ipblockPods, mode }: Pick<InputOptions, 'ipblockPods' | 'mode'>): Semantics {
  return { ipBlockPods: ipblockPods === 'on', mode };
}

/** `80/TCP,81/UDP,ICMP`. */
export function parsePorts(text: string): readonly PortOption[] {
  return text.split(',').map(parsePort);
}

/** `8080/TCP`, `8080` (TCP) or `ICMP`. */
export function parsePort(text: string): PortOption {
  if (text.toUpperCase() === 'ICMP') return { protocol: ICMP, port: ICMP_ECHO };
  const [number = '', name = 'TCP', ...rest] = text.split('/');
  const protocol = protocolNumber(name);
  if (rest.length > 0 || protocol === null || ![TCP, UDP, SCTP].includes(protocol)) {
    throw new InvalidArgumentError(`"${text}": write a port and TCP, UDP or SCTP, as in 80/TCP, or ICMP.`);
  }
  const port = /^\d{1,5}$/.test(number) ? Number(number) : 0;
  if (port < 1 || port > 65535) throw new InvalidArgumentError(`"${text}": a port is a number from 1 to 65535.`);
  return { protocol, port };
}

/** `192.0.2.1,2001:db8::1`. */
export function parseAddresses(text: string): readonly Address[] {
  return text.split(',').map((each) => {
    const address = parseAddress(each);
    if (address === null) throw new InvalidArgumentError(`"${each}" is not an IP address.`);
    return address;
  });
}

function collect(value: string, previous: readonly string[] | undefined): readonly string[] {
  if (value === '') throw new InvalidArgumentError('Name a file, a folder, or - for stdin.');
  return [...(previous ?? []), value];
}

/** A node's name. Names of pins and sockets carry it. */
export function parseNode(name: string): string {
  if (name.length <= 63 && /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/.test(name)) return name;
  throw new InvalidArgumentError('Use 1 to 63 lower-case letters, digits, "-" and ".".');
}

// Writes the layouts and numbers of bpf/abi.h, as the compiler laid them out (BTF of the built object), into TypeScript.
// `gen-abi.ts` writes the file; `generateAbi` gives its text to the test that compares them.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '..');

type Member = { readonly name: string; readonly bits_offset: number };
type Value = { readonly name: string; readonly val: number };
type Variable = { readonly type_id: number; readonly offset: number; readonly size: number };
type BtfType = {
  readonly id: number;
  readonly kind: string;
  readonly name: string;
  readonly size?: number;
  readonly members?: readonly Member[];
  readonly values?: readonly Value[];
  readonly vars?: readonly Variable[];
};

/** Structs that user space reads or writes. */
const STRUCTS = [
  'addr',
  'prefix4_key',
  'prefix6_key',
  'class_key',
  'tagged',
  'endpoint',
  'arena_record',
  'set_layer',
  'set_slot',
  'state',
  'ct_key',
  'ct_leg',
  'move',
  'ct_value',
  'service_key',
  'service',
  'service_places',
  'client_bound',
  'translation',
  'backend',
  'share',
  'event',
  'counters',
];

const ENUMS: readonly (readonly [string, string])[] = [
  ['abi_version', 'ABI_VERSION_'],
  ['drop_reason', 'REASON_'],
  ['table_action', 'ACTION_'],
  ['action_flag', 'ACTION_'],
  ['leg_verdict', 'VERDICT_'],
  ['leg_index', 'LEG_'],
  ['hook', 'HOOK_'],
  ['event_kind', 'EVENT_'],
  ['tcp_stage', 'TCP_'],
  ['entry_flag', 'ENTRY_'],
  ['endpoint_flag', 'ENDPOINT_'],
  ['uplink_flag', 'UPLINK_'],
  ['node_owner', 'NODE_'],
  ['service_scope', 'SCOPE_'],
  ['clients_flag', 'CLIENTS_'],
  ['queue', 'QUEUE_'],
];

/** The text of src/datapath/ebpf/encode/abi.gen.ts for the built objects: of programs that judge packets, and of those of sockets. */
export function generateAbi(object: string, host: string): string {
  const types = typesOf(object);
  const blocks = [
    ...STRUCTS.map((name) => structText(find(types, 'STRUCT', name))),
    ...ENUMS.map(([name, prefix]) => enumText(find(types, 'ENUM', name), prefix)),
    knobText(types, 'KNOBS'),
    knobText(typesOf(host), 'HOST_KNOBS'),
  ];
  return `// Generated from bpf/abi.h by tools/gen-abi.ts. Do not edit: offsets and sizes are bytes.\n\n${blocks.join('\n')}`;
}

function typesOf(object: string): readonly BtfType[] {
  const json = execFileSync('bpftool', ['-j', 'btf', 'dump', 'file', object], {
    encoding: 'utf8',
    maxBuffer: 1 << 26,
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` },
  });
  return (JSON.parse(json) as { readonly types: readonly BtfType[] }).types;
}

function find(types: readonly BtfType[], kind: string, name: string): BtfType {
  const found = types.find((type) => type.kind === kind && type.name === name);
  if (found === undefined) throw new Error(`no ${kind} ${name} in the object's BTF: name it in abi_anchor`);
  return found;
}

function structText(type: BtfType): string {
  const fields = (type.members ?? []).filter((member) => !/^pad\d*$/.test(member.name));
  const lines = fields.map((member) => `  ${camel(member.name)}: ${member.bits_offset / 8},`);
  return `/** struct ${type.name} */\nexport const ${upper(type.name)} = {\n  size: ${type.size},\n${lines.join('\n')}\n} as const;\n`;
}

function enumText(type: BtfType, prefix: string): string {
  const lines = (type.values ?? []).map((value) => `  ${value.name.replace(prefix, '')}: ${value.val},`);
  return `/** enum ${type.name} */\nexport const ${upper(type.name)} = {\n${lines.join('\n')}\n} as const;\n`;
}

function knobText(types: readonly BtfType[], name: string): string {
  const names = new Map(types.map((type) => [type.id, type.name]));
  const variables = find(types, 'DATASEC', '.rodata').vars ?? [];
  const lines = variables.map(
    (each) => `  ${camel(names.get(each.type_id) ?? '')}: { offset: ${each.offset}, size: ${each.size} },`,
  );
  return `/** Knobs, in the object's read-only data. */\nexport const ${name} = {\n${lines.join('\n')}\n} as const;\n`;
}

function camel(name: string): string {
  return name.replaceAll(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
}

function upper(name: string): string {
  return name.toUpperCase();
}

if (import.meta.main) {
  const text = generateAbi(join(ROOT, 'build/bpf/moat.bpf.o'), join(ROOT, 'build/bpf/host.bpf.o'));
  writeFileSync(join(ROOT, 'src/datapath/ebpf/encode/abi.gen.ts'), text);
}

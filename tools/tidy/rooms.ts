// The rooms of src/ and what each may import: docs/architecture.md's table, as data.

/** `imports`: rooms that may be used beside one's own. `pure`: no clock, no files, no process. */
export type Room = { readonly name: string; readonly imports: readonly string[] | 'all'; readonly pure: boolean };

const POLICY = ['net', 'policy'];
const COMPILE = [...POLICY, 'compile'];
const PURE = [
  ...COMPILE,
  'identity',
  'dialects',
  'analyze',
  'service',
  'datapath',
  'datapath/reference',
  'cluster/manifests',
];
const BELOW_AGENT = [...PURE, 'kernel', 'cluster', 'network', 'l7', 'flow', 'datapath/ebpf', 'datapath/nftables'];

/** Longest path first where one room lies in another's folder. A dialect's folder is `dialects`; none may use another. */
export const ROOMS: readonly Room[] = [
  { name: 'net', imports: [], pure: true },
  { name: 'policy', imports: ['net'], pure: true },
  { name: 'dialects', imports: POLICY, pure: true },
  { name: 'identity', imports: POLICY, pure: true },
  { name: 'compile', imports: [...POLICY, 'identity'], pure: true },
  { name: 'analyze', imports: PURE, pure: true },
  { name: 'datapath/reference', imports: [...COMPILE, 'datapath'], pure: true },
  { name: 'datapath/ebpf/encode', imports: [...COMPILE, 'datapath'], pure: true },
  { name: 'datapath/ebpf', imports: [...COMPILE, 'datapath', 'datapath/ebpf/encode', 'kernel'], pure: false },
  { name: 'datapath/nftables', imports: [...COMPILE, 'datapath'], pure: false },
  { name: 'datapath', imports: COMPILE, pure: false },
  { name: 'kernel', imports: ['net'], pure: false },
  { name: 'cluster/manifests', imports: POLICY, pure: true },
  { name: 'cluster', imports: [...POLICY, 'dialects', 'cluster/manifests'], pure: false },
  { name: 'network', imports: ['net', 'kernel'], pure: false },
  { name: 'service', imports: [...POLICY, 'compile'], pure: true },
  { name: 'l7', imports: ['net', 'compile'], pure: false },
  { name: 'flow', imports: [...COMPILE, 'datapath'], pure: false },
  { name: 'agent', imports: BELOW_AGENT, pure: false },
  { name: 'controller', imports: BELOW_AGENT, pure: false },
  { name: 'sandbox', imports: [...BELOW_AGENT, 'agent'], pure: false },
  { name: 'cli', imports: 'all', pure: false },
  { name: 'main', imports: 'all', pure: false },
];

/** Files that are pure though their room is not. */
const PURE_FILES: readonly string[] = ['src/datapath/port.ts', 'src/network/ipam.ts'];

/** The room that a file of src/ is in; null where it is in none. */
export function roomOf(path: string): Room | null {
  const inside = ROOMS.filter((room) => path.startsWith(`src/${room.name}/`));
  return inside.sort((a, b) => b.name.length - a.name.length)[0] ?? null;
}

/** True for code that is type-checked without Node. Tests may use what they like. */
export function isPure(path: string): boolean {
  return !isTest(path) && (PURE_FILES.includes(path) || (roomOf(path)?.pure ?? false));
}

/** Tests, and what only tests use: they may import any pure room. */
export function isTest(path: string): boolean {
  return path.endsWith('.test.ts') || path.startsWith('test/') || /^src\/datapath\/conformance/.test(path);
}

/** The rooms that a file may import beside its own. */
export function allowedRooms(path: string): readonly string[] | 'all' {
  const room = roomOf(path);
  if (room === null || path.startsWith('test/')) return 'all';
  if (room.imports === 'all') return 'all';
  return isTest(path) ? [...room.imports, ...PURE] : room.imports;
}

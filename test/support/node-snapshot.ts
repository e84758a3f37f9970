// What a node of the real cluster is, kind by kind and line by line, so that two moments can be compared: its network, its
// kernel's settings, its files. And which kernel programs its agent has loaded.
import { createHash } from 'node:crypto';
import { existsSync, lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { pinPath } from '#kernel/bpffs.ts';
import { run } from '../../tools/cluster/commands.ts';
import type { Machine } from '../../tools/cluster/machine.ts';
import { INSTANCE } from '../../tools/cluster/places.ts';

export type Snapshot = ReadonlyMap<string, readonly string[]>;

/** Of a link, what somebody sets; not what is counted or runs down, nor the length of a queue that it does not have (decision 0030). */
const OF_LINKS = [
  ...['ifindex', 'ifname', 'link_index', 'flags', 'mtu', 'qdisc', 'master', 'group', 'address'],
  ...['promiscuity', 'allmulti', 'min_mtu', 'max_mtu', 'num_tx_queues', 'num_rx_queues', 'gso_max_size', 'xdp'],
];
/** Settings of the kernel that change by themselves. */
const NOT_SET = /^net\.(netfilter\.nf_conntrack_count|ipv[46]\.conf\.[^ ]*\.(stable_secret|use_tempaddr) )/;
/** Folders of the runtime and the kubelet, in whose business nobody else is; and logs. */
const OTHERS = [
  'run/containerd',
  'run/lock',
  'run/runc',
  'var/lib/containerd',
  'var/lib/kubelet',
  'var/log',
  'var/tmp',
];
/** Whose contents count, too. */
const CONTENTS = ['cni'];
const FOLDERS = ['cni', 'run', 'var'];

/** Looks at a node. */
export async function snapshotOf(machine: Machine): Promise<Snapshot> {
  const [links, settings, rules] = [await linksOf(machine), await settingsOf(machine), await rulesetOf(machine)];
  const asked: Readonly<Record<string, readonly string[]>> = {
    addresses: ['-o', 'addr', 'show'],
    routes: ['-o', 'route', 'show', 'table', 'all'],
    'routes of IPv6': ['-6', '-o', 'route', 'show', 'table', 'all'],
    rules: ['rule', 'show'],
    'rules of IPv6': ['-6', 'rule', 'show'],
    'neighbours answered for': ['neigh', 'show', 'proxy'],
    namespaces: ['netns', 'list'],
  };
  const shown = await Promise.all(
    Object.entries(asked).map(async ([kind, args]): Promise<readonly [string, readonly string[]]> => {
      return [kind, linesOf(await machine.run('ip', args))];
    }),
  );
  return new Map([
    ['links', links],
    ...shown,
    ['queue lengths', await queueLengthsOf(machine)],
    ['queues', linesOf(await machine.run('tc', ['qdisc', 'show']))],
    ['hooks', await hooksOf(machine)],
    ['nftables', rules],
    ['settings', settings],
    ['files', FOLDERS.flatMap((folder) => filesIn(machine.folder, folder))],
    ['pins', pinsOf(machine)],
    ['processes', linesOf(await machine.run('sh', ['-c', 'pgrep -af "[m]oat.js" || true']))],
  ]);
}

/** What the second has and the first has not (+), and the other way round (-); in order. */
export function differences(before: Snapshot, after: Snapshot): readonly string[] {
  return [...before.keys()].flatMap((kind) => {
    const [old, now] = [before.get(kind) ?? [], after.get(kind) ?? []];
    return [
      ...old.filter((line) => !now.includes(line)).map((line) => `- ${kind}: ${line}`),
      ...now.filter((line) => !old.includes(line)).map((line) => `+ ${kind}: ${line}`),
    ];
  });
}

/** Numbers of the programs that hang on a node's links, by the pins that hold them there. */
export async function programsOf(machine: Machine): Promise<readonly number[]> {
  const links = pinsOf(machine).filter((path) => basename(path).startsWith('link_'));
  const programs = links.map(async (path) => {
    return (JSON.parse(await run('bpftool', ['-j', 'link', 'show', 'pinned', path])) as PinnedLink).prog_id;
  });
  return [...new Set(await Promise.all(programs))];
}

type PinnedLink = { readonly prog_id: number };

/** Which of these programs the kernel still has. */
export async function livingPrograms(ids: readonly number[]): Promise<readonly number[]> {
  const all = JSON.parse(await run('bpftool', ['-j', 'prog', 'show'])) as readonly { readonly id: number }[];
  const living = new Set(all.map(({ id }) => id));
  return ids.filter((id) => living.has(id));
}

async function linksOf(machine: Machine): Promise<readonly string[]> {
  const links = JSON.parse(await machine.run('ip', ['-d', '-json', 'link'])) as readonly Record<string, unknown>[];
  return links
    .map((link) => {
      const { info_kind, info_slave_kind, info_slave_data } = (link.linkinfo ?? {}) as Record<string, unknown>;
      const { hairpin, learning, isolated } = (info_slave_data ?? {}) as Record<string, unknown>;
      const fields = OF_LINKS.map((name) => [name, link[name]] as const);
      return JSON.stringify({
        ...Object.fromEntries(fields),
        ...{ info_kind, info_slave_kind, hairpin, learning, isolated },
      });
    })
    .sort();
}

async function queueLengthsOf(machine: Machine): Promise<readonly string[]> {
  const links = JSON.parse(await machine.run('ip', ['-json', 'link'])) as readonly Record<string, unknown>[];
  return links.map(({ ifname, txqlen }) => `${ifname} ${txqlen ?? 0}`);
}

const TCX_PROGRAMS = join(import.meta.dirname, 'tcx-programs.ts');

/** What hangs on a node's links: by tc's filters, as bpftool shows them, and by tcx. */
export async function hooksOf(machine: Machine): Promise<readonly string[]> {
  type Shown = Readonly<Record<string, readonly unknown[]>>;
  const filters = JSON.parse(await machine.run('bpftool', ['-j', 'net'])) as readonly Shown[];
  const tcx = await machine.run(process.execPath, [TCX_PROGRAMS]);
  return [
    ...filters.flatMap((each) => Object.values(each).flat()).map((hook) => JSON.stringify(hook)),
    ...linesOf(tcx),
  ];
}

/** All of nftables, iptables' rules among them, without counters and numbers. */
async function rulesetOf(machine: Machine): Promise<readonly string[]> {
  const { nftables } = JSON.parse(await machine.run('nft', ['-j', '-s', 'list', 'ruleset'])) as {
    readonly nftables: readonly unknown[];
  };
  return nftables.map((each) => JSON.stringify(each, (key, value) => (key === 'handle' ? undefined : value)));
}

async function settingsOf(machine: Machine): Promise<readonly string[]> {
  const all = linesOf(await machine.run('sh', ['-c', 'sysctl -a 2>/dev/null | grep "^net[.]"']));
  return all.filter((line) => !NOT_SET.test(line));
}

/** Paths below a machine's folder, links with where they lead, and where it counts a sum of the contents. */
function filesIn(root: string, folder: string): readonly string[] {
  if (OTHERS.includes(folder) || !existsSync(join(root, folder))) return [];
  const entries = readdirSync(join(root, folder)).map((name) => join(folder, name));
  return entries.flatMap((path) => {
    if (OTHERS.includes(path)) return [];
    const status = lstatSync(join(root, path));
    if (status.isDirectory()) return [`${path}/`, ...filesIn(root, path)];
    if (status.isSymbolicLink()) return [`${path} -> ${readlinkSync(join(root, path))}`];
    return [CONTENTS.some((each) => path.startsWith(`${each}/`)) ? `${path} ${sumOf(join(root, path))}` : path];
  });
}

function sumOf(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex').slice(0, 16);
}

function pinsOf({ name }: Machine): readonly string[] {
  const path = pinPath(INSTANCE, name);
  if (!existsSync(path)) return [];
  return readdirSync(path, { recursive: true, encoding: 'utf8' }).map((each) => join(path, each));
}

function linesOf(text: string): readonly string[] {
  return text
    .split('\n')
    .map((line) => line.replaceAll(/ (valid_lft|expires) .*| +$/g, ''))
    .filter((line) => line !== '')
    .sort();
}

// What the node that this runs on has of what Moat needs. What can be tried is tried; nothing of it stays.
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, statfsSync } from 'node:fs';
import { get } from 'node:http';
import { release } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { type CniPlaces, namesPlugin, networkConfigs } from '#agent/cni-install.ts';
import { HOST_OBJECT, loadHostPrograms } from '#datapath/ebpf/host-hooks.ts';
import { checkKernel } from '#datapath/ebpf/kernel-check.ts';
import { openDatapath, unpinDatapath } from '#datapath/ebpf/open.ts';
import { cgroupRoot } from '#kernel/cgroup.ts';
import { netnsCookie } from '#kernel/sockets.ts';
import { fieldsOf, itemsOf } from '#policy/fields.ts';
import { type Finding, findingOf, messageOf } from './install-finding.ts';

const TMPFS = 0x01021994;
const PROXY_MODE = 'http://127.0.0.1:10249/proxyMode';
/** The first of the ports by which a node asks other nodes' endpoints for clients outside (bpf/self.h). */
export const SELF_PORTS = 61_000;
/** Room that is only tried. */
const SMALL: ReadonlyMap<string, number> = new Map(
  ['endpoint_map', 'service_map', 'affinity_map', 'service_slots', 'service_places', 'backend_slots'].map((name) => [
    name,
    64,
  ]),
);
const finding = findingOf('node');

/** Looks at this node, and loads the kernel programs under a name of its own: needs root. */
export async function checkNode(node: string, places: CniPlaces): Promise<readonly Finding[]> {
  return [
    ...kernelFindings(node),
    bpffsFinding(),
    runFinding(),
    cgroupFinding(),
    ...sysctlFindings(),
    ...cniFindings(places),
    await proxyFinding(),
  ];
}

function kernelFindings(node: string): readonly Finding[] {
  const needs = 'agents refuse to start here';
  try {
    const mode = checkKernel(undefined);
    const how = mode === 'tcx' ? 'with tcx' : 'without tcx, which came with 6.6: hooks are filters of clsact';
    return [finding('kernel', 'ok', `Linux ${release()}, ${how}`), loadFinding(node)];
  } catch (error) {
    return [finding('kernel', 'lacking', messageOf(error), needs)];
  }
}

/** The verifier has the last word, so it is asked. */
function loadFinding(node: string): Finding {
  // Not by its number: in a container that is always the same, and a kernel may have several nodes.
  const name = { instance: `check${randomBytes(4).toString('hex')}`, node };
  try {
    openDatapath({ ...name, sizes: { ct_map: 4096 } }).close();
    return finding('kernel programs', 'ok', 'loaded, and removed again');
  } catch (error) {
    return finding('kernel programs', 'lacking', messageOf(error), 'agents refuse to start here');
  } finally {
    if (existsSync('/sys/fs/bpf/moat')) unpinDatapath(name.instance, name.node);
  }
}

function bpffsFinding(): Finding {
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
  if (mounts.some((line) => /^\S+ \/sys\/fs\/bpf bpf /.test(line))) return finding('bpffs', 'ok', '/sys/fs/bpf');
  return finding(
    'bpffs',
    'lacking',
    'not mounted',
    'mount -t bpf bpf /sys/fs/bpf, at each boot: what enforces policy lives there',
  );
}

function runFinding(): Finding {
  const folder = existsSync('/run/moat') ? '/run/moat' : '/run';
  if (statfsSync(folder).type === TMPFS) return finding('/run', 'ok', 'in memory');
  const meaning = 'addresses of pods from before a boot would stay taken: mount a tmpfs there';
  return finding('/run', 'warning', 'outlives a boot', meaning);
}

/** Hooks for the node's own clients are at the root of cgroup2, which is beside v1 on older machines. */
function cgroupFinding(): Finding {
  const root = cgroupRoot();
  const found = `${existsSync('/sys/fs/cgroup/cgroup.controllers') ? 'v2' : 'v1'}, ${root === null ? 'no root of cgroup2' : `root of cgroup2: ${root}`}`;
  const without = 'with services: moat, clients on the node itself, and pods on its network, reach no Service';
  if (root === null) return finding('cgroups', 'warning', found, without);
  try {
    loadHostPrograms(HOST_OBJECT, { cookie: netnsCookie(), sizes: SMALL }).close();
    return finding('cgroups', 'ok', found);
  } catch (error) {
    return finding('cgroups', 'warning', `${found}; ${messageOf(error)}`, without);
  }
}

function sysctlFindings(): readonly Finding[] {
  const filter = Math.max(...['all', 'default'].map((each) => Number(readSetting(`ipv4/conf/${each}/rp_filter`) ?? 0)));
  const slow = 'programs are interpreted: every packet takes several times as long';
  return [
    forwardFinding('IPv4', 'ipv4/ip_forward'),
    forwardFinding('IPv6', 'ipv6/conf/all/forwarding'),
    finding(
      'rp_filter',
      'ok',
      `net.ipv4.conf: ${filter}`,
      'pods’ sources are checked at their links, whatever this is',
    ),
    ...portFindings(readSetting('ipv4/ip_local_port_range')),
    ...(readSetting('core/bpf_jit_enable') === '0'
      ? [finding('BPF compiler', 'warning', 'net.core.bpf_jit_enable = 0', slow)]
      : []),
  ];
}

/** Nothing where the node's own ports, a range as the kernel writes it, end before those by which it asks for clients outside. */
export function portFindings(range: string | null): readonly Finding[] {
  const last = Number(range?.split(/\s+/)[1] ?? 0);
  if (last < SELF_PORTS) return [];
  const meaning = `with services: moat, a connection of the node itself by a port from ${SELF_PORTS} on may lose its answers to a client outside that asks the same endpoint: end it at ${SELF_PORTS - 1}`;
  return [finding('own ports', 'warning', `net.ipv4.ip_local_port_range = ${range?.replace(/\s+/, ' ')}`, meaning)];
}

/** A cluster of IPv6 alone is rare: where IPv6 is not forwarded, none of it is likelier than a fault. */
function forwardFinding(family: 'IPv4' | 'IPv6', path: string): Finding {
  const subject = `forwards ${family}`;
  const value = readSetting(path);
  if (value === null) return finding(subject, 'warning', 'not in this kernel');
  const found = `net.${path.replaceAll('/', '.')} = ${value}`;
  if (value !== '0') return finding(subject, 'ok', found);
  const status = family === 'IPv4' ? 'lacking' : 'warning';
  return finding(subject, status, found, `nodes with a podCIDR of ${family} take no pods before it is 1`);
}

/** Null where this kernel does not have it. */
function readSetting(path: string): string | null {
  const file = `/proc/sys/net/${path}`;
  return existsSync(file) ? readFileSync(file, 'utf8').trim() : null;
}

function cniFindings({ pluginFolder, config }: CniPlaces): readonly Finding[] {
  const folder = dirname(config);
  const there = networkConfigs(folder);
  const others = there.filter((name) => !namesPlugin(join(folder, name)));
  const before = others.filter((name) => name < basename(config));
  const named = others.map((name) => `${name} (${typesIn(join(folder, name))})`).join(', ');
  const findings = [];
  if (before.length > 0) {
    const meaning = `the runtime takes the first file by name, and that would not be ${basename(config)}: name it otherwise (cni.configFile), or remove the other`;
    findings.push(finding(folder, 'lacking', named, meaning));
  } else if (others.length > 0) {
    const meaning = `new pods are Moat's once ${basename(config)} is there, or the other's, and judged by Moat, with the chart's value cni.behind; those that run are judged with adoptRunningPods alone`;
    findings.push(finding(folder, 'warning', named, meaning));
  } else {
    findings.push(finding(folder, 'ok', there.length === 0 ? 'no network configuration' : there.join(', ')));
  }
  const loopback = existsSync(join(pluginFolder, 'loopback'));
  findings.push(
    loopback
      ? finding(pluginFolder, 'ok', 'has loopback')
      : finding(
          pluginFolder,
          'warning',
          'no plugin loopback',
          'containerd before 2.0 starts no pod without it: it comes with the package kubernetes-cni',
        ),
  );
  return findings;
}

function typesIn(path: string): string {
  try {
    const network = fieldsOf(JSON.parse(readFileSync(path, 'utf8')));
    const plugins = Array.isArray(network.plugins) ? itemsOf(network.plugins).map(fieldsOf) : [network];
    return plugins.map(({ type }) => String(type)).join(' + ');
  } catch {
    return 'no JSON';
  }
}

/** kube-proxy tells its mode to whoever asks on the node. */
async function proxyFinding(): Promise<Finding> {
  const { promise, resolve } = Promise.withResolvers<string | null>();
  get(PROXY_MODE, { timeout: 2000 }, (response) => {
    let text = '';
    response.setEncoding('utf8').on('data', (part: string) => {
      text += part;
    });
    response.on('end', () => resolve(response.statusCode === 200 ? text.trim() : null));
  })
    .on('timeout', () => resolve(null))
    .on('error', () => resolve(null));
  const mode = await promise;
  if (mode !== null) return finding('kube-proxy', 'ok', `mode ${mode}`, 'Services are its work, as before');
  return finding(
    'kube-proxy',
    'warning',
    'does not answer on 127.0.0.1:10249',
    "pods reach Services only where agents serve them (the chart's value services: moat), or something else translates them",
  );
}

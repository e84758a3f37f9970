// A node: a machine with containerd and a kubelet, each in its default places, which are the machine's own.
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { FinalError, until } from './commands.ts';
import { SERVER } from './control-plane.ts';
import { PAUSE_IMAGE } from './images.ts';
import type { Machine } from './machine.ts';
import type { Authority } from './pki.ts';
import { addressesOf, DEBIAN, DNS_ADDRESS, INSIDE, KUBERNETES } from './places.ts';

const START_LIMIT_MS = 60_000;
const CONTAINERD = 'unix:///run/containerd/containerd.sock';
/** A node routes. For IPv6, too, which a namespace has off at first. */
const SETTINGS = ['net/ipv4/ip_forward', 'net/ipv6/conf/all/forwarding', 'net/ipv6/conf/default/forwarding'];

/** Starts a node's daemons. Resolves when containerd has the images; the rest is on its way then. */
export async function startNode(
  machine: Machine,
  number: number,
  { authority, images }: { readonly authority: Authority; readonly images: readonly string[] },
): Promise<void> {
  const { folder, name } = machine;
  await machine.run('sh', ['-c', SETTINGS.map((path) => `echo 1 >/proc/sys/${path}`).join('; ')]);
  await authority.issue(name, `system:node:${name}`, 'system:nodes');
  const secret = { mode: 0o600 };
  writeFileSync(join(folder, 'kubelet.kubeconfig'), authority.kubeconfig(name, SERVER), secret);
  copyFileSync(join(authority.folder, 'ca.crt'), join(folder, 'ca.crt'));
  writeFileSync(join(folder, 'kubelet.json'), JSON.stringify(kubeletConfig(), null, 2));
  writeFileSync(join(folder, 'containerd.toml'), containerdConfig(await snapshotterOf(machine)));
  mkdirSync(join(folder, 'cni/bin'), { recursive: true });
  mkdirSync(join(folder, 'cni/net.d'));
  // containerd 1.6 raises a pod's lo by the first; the others stand behind Moat's plugin, or in another CNI's place.
  for (const each of ['loopback', 'portmap', 'bandwidth', 'bridge', 'host-local'])
    copyFileSync(join(DEBIAN, 'usr/lib/cni', each), join(folder, 'cni/bin', each));
  const containerd = await machine.start('containerd', join(DEBIAN, 'usr/bin/containerd'), [
    '--config',
    `${INSIDE}/containerd.toml`,
  ]);
  await until(`containerd on ${name}`, START_LIMIT_MS, async () => {
    if (!containerd()) throw new FinalError(`containerd ended: ${machine.tail('containerd')}`);
    return await machine.run('ctr', ['version']);
  });
  for (const image of images) await importImage(machine, image);
  const { 4: v4, 6: v6 } = addressesOf(number);
  await machine.start('kubelet', join(KUBERNETES, 'kubelet'), [
    ...[`--config=${INSIDE}/kubelet.json`, `--kubeconfig=${INSIDE}/kubelet.kubeconfig`],
    ...[`--hostname-override=${name}`, `--node-ip=${v4},${v6}`],
  ]);
}

/** Gives an image's archive to a node's containerd. */
export async function importImage(machine: Machine, archive: string): Promise<void> {
  const name = basename(archive);
  copyFileSync(archive, join(machine.folder, name));
  const snapshotter = ['--snapshotter', await snapshotterOf(machine)];
  await machine.run('ctr', ['-n', 'k8s.io', 'images', 'import', ...snapshotter, `${INSIDE}/${name}`]);
}

/** How containers come by their root: as layers over each other, where the file system below bears it, else as copies. */
async function snapshotterOf(machine: Machine): Promise<string> {
  const folder = '/var/lib/overlay';
  const mount = `mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay merged && umount merged`;
  const script = `mkdir -p ${folder} && cd ${folder} && mkdir -p lower upper work merged && if ${mount}; then echo overlayfs; else echo native; fi`;
  return (await machine.run('sh', ['-c', script])).trim();
}

function kubeletConfig(): unknown {
  return {
    ...{ apiVersion: 'kubelet.config.k8s.io/v1beta1', kind: 'KubeletConfiguration' },
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: `${INSIDE}/ca.crt` },
    },
    authorization: { mode: 'Webhook' },
    ...{ cgroupDriver: 'cgroupfs', containerRuntimeEndpoint: CONTAINERD, failSwapOn: false },
    // Below /usr by default, where the machine has no folder of its own.
    volumePluginDir: '/var/lib/kubelet/volume-plugins',
    // This computer's own resolver is out of reach.
    ...{ resolvConf: '', clusterDomain: 'cluster.local', clusterDNS: [DNS_ADDRESS] },
    // How full this computer's disk is should not matter.
    imageGCHighThresholdPercent: 100,
    evictionHard: { 'memory.available': '100Mi', 'nodefs.available': '1%', 'imagefs.available': '1%' },
  };
}

const CRI = 'plugins."io.containerd.grpc.v1.cri"';
function containerdConfig(snapshotter: string): string {
  return `version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
  address = "/run/containerd/containerd.sock"

[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"

[${CRI}]
  sandbox_image = "${PAUSE_IMAGE}"
  # Root may lack CAP_SYS_RESOURCE here, without which nobody's score goes down.
  restrict_oom_score_adj = true

[${CRI}.containerd]
  snapshotter = "${snapshotter}"
  default_runtime_name = "runc"

[${CRI}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[${CRI}.containerd.runtimes.runc.options]
  SystemdCgroup = false

[${CRI}.cni]
  bin_dir = "${INSIDE}/cni/bin"
  conf_dir = "${INSIDE}/cni/net.d"
`;
}

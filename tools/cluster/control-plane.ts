// The machine `control`: the switch that all machines are on, etcd, and the daemons of Kubernetes' control plane.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { FinalError, run, until } from './commands.ts';
import type { Machine } from './machine.ts';
import { Authority } from './pki.ts';
import { API_PORT, addressesOf, INSIDE, KUBERNETES, NAME, POD_BLOCKS, SERVICE_BLOCKS } from './places.ts';

const SWITCH = 'switch';
const ETCD = 'http://127.0.0.1:2379';
const START_LIMIT_MS = 180_000;
const OWN = addressesOf(1);
const PKI = `${INSIDE}/pki`;
/** Where everyone finds the API server. */
export const SERVER: string = `https://${OWN[4]}:${API_PORT}`;
/** In this order. */
const USERS: readonly (readonly [name: string, user: string, group: string | null])[] = [
  ['admin', 'admin', 'system:masters'],
  ['controller-manager', 'system:kube-controller-manager', null],
  ['scheduler', 'system:kube-scheduler', null],
  ['api-to-kubelet', 'kube-apiserver', 'system:masters'],
];

/** Puts the switch into the control plane's machine, with this computer on it, by the interface that has the cluster's name. */
export async function connectComputer(control: Machine): Promise<void> {
  await control.run('ip', ['-batch', '-'], `link add ${SWITCH} type bridge\n${up(SWITCH, OWN)}`);
  await run('ip', ['link', 'add', NAME, 'type', 'veth', 'peer', 'name', 'computer', 'netns', String(control.pid)]);
  await control.run('ip', ['link', 'set', 'computer', 'up', 'master', SWITCH]);
  await run('ip', ['-batch', '-'], up(NAME, addressesOf(254)));
}

/** Puts a machine on the switch: its interface is eth0. */
export async function connect(control: Machine, machine: Machine, number: number): Promise<void> {
  const peer = ['peer', 'name', 'eth0', 'netns', String(machine.pid)];
  await run('nsenter', ['-t', String(control.pid), '-n', 'ip', 'link', 'add', machine.name, 'type', 'veth', ...peer]);
  await control.run('ip', ['link', 'set', machine.name, 'up', 'master', SWITCH]);
  await machine.run('ip', ['-batch', '-'], up('eth0', addressesOf(number)));
}

function up(device: string, addresses: { readonly 4: string; readonly 6: string }): string {
  const { 4: v4, 6: v6 } = addresses;
  return `link set ${device} up\naddr add ${v4}/24 dev ${device}\naddr add ${v6}/64 dev ${device} nodad\n`;
}

/** Makes the certificates of the control plane, and the kubeconfigs of its daemons. */
export async function certify(control: Machine): Promise<Authority> {
  const authority = await Authority.create(join(control.folder, 'pki'));
  const names = ['DNS:kubernetes', 'DNS:kubernetes.default', 'DNS:kubernetes.default.svc', 'DNS:localhost'];
  const addresses = [OWN[4], OWN[6], '127.0.0.1', '10.96.0.1', 'fd00:10:96::1'].map((address) => `IP:${address}`);
  await authority.issue('apiserver', 'kube-apiserver', null, [...names, ...addresses].join(','));
  for (const [name, user, group] of USERS) await authority.issue(name, user, group);
  for (const name of ['controller-manager', 'scheduler']) {
    writeFileSync(join(control.folder, `${name}.kubeconfig`), authority.kubeconfig(name, SERVER), { mode: 0o600 });
  }
  return authority;
}

/** Runs kubectl; its standard output. */
type Ask = (args: readonly string[]) => Promise<string>;

/** Starts etcd and the daemons. Resolves when the API server is ready. */
export async function startControlPlane(control: Machine, ask: Ask): Promise<void> {
  mkdirSync(join(control.folder, 'var/lib/etcd'), { mode: 0o700 });
  const urls = ['--listen-client-urls', ETCD, '--advertise-client-urls', ETCD];
  // A cluster for a day or less: nothing of it must outlive a power cut.
  await control.start('etcd', '/usr/bin/etcd', ['--data-dir', '/var/lib/etcd', ...urls, '--unsafe-no-fsync']);
  await startApiServer(control, ask);
  await control.start('kube-controller-manager', join(KUBERNETES, 'kube-controller-manager'), [
    ...[`--kubeconfig=${INSIDE}/controller-manager.kubeconfig`, '--leader-elect=false'],
    ...['--allocate-node-cidrs', `--cluster-cidr=${POD_BLOCKS}`, `--service-cluster-ip-range=${SERVICE_BLOCKS}`],
    ...[`--root-ca-file=${PKI}/ca.crt`, `--service-account-private-key-file=${PKI}/accounts.key`],
    ...[`--cluster-signing-cert-file=${PKI}/ca.crt`, `--cluster-signing-key-file=${PKI}/ca.key`],
    // Its default is below /usr.
    ...['--use-service-account-credentials', '--flex-volume-plugin-dir=/var/lib/flex-volumes'],
  ]);
  const config = `--kubeconfig=${INSIDE}/scheduler.kubeconfig`;
  await control.start('kube-scheduler', join(KUBERNETES, 'kube-scheduler'), [config, '--leader-elect=false']);
}

/** Resolves when it is ready. */
export async function startApiServer(control: Machine, ask: Ask): Promise<void> {
  const lives = await control.start('kube-apiserver', join(KUBERNETES, 'kube-apiserver'), apiServerFlags());
  await until('the API server', START_LIMIT_MS, async () => {
    if (!lives()) throw new FinalError(`kube-apiserver ended: ${control.tail('kube-apiserver')}`);
    return (await ask(['get', '--raw', '/readyz'])) === 'ok' ? true : null;
  });
}

function apiServerFlags(): readonly string[] {
  return [
    ...[`--etcd-servers=${ETCD}`, `--secure-port=${API_PORT}`, `--advertise-address=${OWN[4]}`],
    ...[`--tls-cert-file=${PKI}/apiserver.crt`, `--tls-private-key-file=${PKI}/apiserver.key`],
    ...[
      `--client-ca-file=${PKI}/ca.crt`,
      '--authorization-mode=Node,RBAC',
      '--enable-admission-plugins=NodeRestriction',
    ],
    ...[`--service-account-key-file=${PKI}/accounts.key`, `--service-account-signing-key-file=${PKI}/accounts.key`],
    ...['--service-account-issuer=https://kubernetes.default.svc', `--service-cluster-ip-range=${SERVICE_BLOCKS}`],
    ...[`--kubelet-client-certificate=${PKI}/api-to-kubelet.crt`, `--kubelet-client-key=${PKI}/api-to-kubelet.key`],
    ...['--kubelet-preferred-address-types=InternalIP', '--allow-privileged'],
  ];
}

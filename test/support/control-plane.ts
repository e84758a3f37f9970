// A control plane of its own: etcd and kube-apiserver as they are, on this machine's loopback, with as many users as a
// test likes. No controllers and no nodes: what stands in it is what a test puts there.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { Connect } from '#cluster/kubernetes/connection.ts';
import { KUBERNETES_BIN } from './needs.ts';

/** Tokens of the users: the name is the token. `admin` may do anything, the others what RBAC says. */
const ADMIN = 'admin';
/** What an agent lists and watches. */
export const EVERYTHING: readonly string[] = ['pods', 'namespaces', 'nodes', 'networkpolicies'];
/** What it follows besides where it serves Services. */
export const OF_SERVICES: readonly string[] = ['services', 'endpointslices'];
const API_SERVER = join(KUBERNETES_BIN, 'kube-apiserver');
const ETCD = '/usr/bin/etcd';
const RBAC = '/apis/rbac.authorization.k8s.io/v1';
const START_LIMIT_MS = 120_000;

export class ControlPlane {
  readonly folder: string = mkdtempSync(join(tmpdir(), 'moat-control-plane-'));
  readonly #ports: { readonly etcd: number; readonly peer: number; readonly api: number };
  #etcd: ChildProcess | null = null;
  #api: ChildProcess | null = null;
  #store = 0;

  private constructor(ports: readonly number[]) {
    const [etcd = 0, peer = 0, api = 0] = ports;
    this.#ports = { etcd, peer, api };
  }

  /** Resolves when the API server is ready. */
  static async start(users: readonly string[] = []): Promise<ControlPlane> {
    for (const program of [API_SERVER, ETCD])
      if (!existsSync(program)) throw new Error(`${program} is missing: make kubernetes`);
    const plane = new ControlPlane(await freePorts(3));
    const { folder } = plane;
    const groups = users.map((user) => `${user},${user},${user}`);
    writeFileSync(join(folder, 'tokens.csv'), [`${ADMIN},${ADMIN},0,system:masters`, ...groups, ''].join('\n'));
    execFileSync('openssl', ['genrsa', '-out', join(folder, 'accounts.key'), '2048'], { stdio: 'ignore' });
    plane.#startEtcd();
    try {
      await plane.startApiServer();
    } catch (error) {
      await plane.close();
      throw error;
    }
    return plane;
  }

  get port(): number {
    return this.#ports.api;
  }

  /** The certificate that the server made for itself. */
  get ca(): string {
    return readFileSync(join(this.folder, 'certs/apiserver.crt'), 'utf8');
  }

  /** Its key: for who stands in the server's place. */
  get key(): string {
    return readFileSync(join(this.folder, 'certs/apiserver.key'), 'utf8');
  }

  /** The connection of a user; through a gate, where a port is named. */
  connect(user: string, port: number = this.port): Connect {
    return () => ({ server: new URL(`https://127.0.0.1:${port}`), ca: this.ca, token: user });
  }

  /** A kubeconfig of a user; through a gate, where a port is named. */
  kubeconfig(user: string, port: number = this.port): string {
    const path = join(this.folder, `${user}.kubeconfig`);
    const cluster = { server: `https://127.0.0.1:${port}`, 'certificate-authority': 'certs/apiserver.crt' };
    const config = {
      'current-context': 'it',
      contexts: [{ name: 'it', context: { cluster: 'it', user } }],
      clusters: [{ name: 'it', cluster }],
      users: [{ name: user, user: { token: user } }],
    };
    writeFileSync(path, JSON.stringify(config));
    return path;
  }

  async startApiServer(): Promise<void> {
    const file = (name: string): string => join(this.folder, name);
    this.#api = this.#run(API_SERVER, [
      `--etcd-servers=http://127.0.0.1:${this.#ports.etcd}`,
      ...[`--secure-port=${this.#ports.api}`, '--bind-address=127.0.0.1', `--cert-dir=${file('certs')}`],
      ...[`--service-account-key-file=${file('accounts.key')}`],
      ...[`--service-account-signing-key-file=${file('accounts.key')}`, '--service-account-issuer=https://moat.test'],
      ...['--service-cluster-ip-range=10.96.0.0/16,fd96::/112', '--authorization-mode=RBAC'],
      ...[`--token-auth-file=${file('tokens.csv')}`, '--disable-admission-plugins=ServiceAccount'],
      // It may stand in a namespace without a way out, and nobody asks where it is.
      ...['--advertise-address=192.0.2.1', '--endpoint-reconciler-type=none'],
      // Ends as soon as it is told to, with its watches ended in order.
      '--shutdown-delay-duration=0s',
    ]);
    for (let waited = 0; waited < START_LIMIT_MS; waited += 200) {
      const ready = await this.ask('GET', '/readyz').catch(() => null);
      if (ready?.status === 200) return;
      if (this.#api.exitCode !== null) break;
      await pause(200);
    }
    throw new Error(`kube-apiserver did not start:\n${readFileSync(file('kube-apiserver.log'), 'utf8').slice(-3000)}`);
  }

  async killApiServer(): Promise<void> {
    await end(this.#api);
  }

  /** Does it, and throws with the server's words where it refuses. */
  async do(method: 'POST' | 'PATCH' | 'DELETE' | 'GET', path: string, body?: unknown): Promise<unknown> {
    const { status, text } = await this.ask(method, path, body);
    if (status < 200 || status > 299) throw new Error(`${method} ${path}: ${status} ${text}`);
    return JSON.parse(text);
  }

  async ask(method: string, path: string, body?: unknown): Promise<{ readonly status: number; readonly text: string }> {
    const { promise, resolve, reject } = Promise.withResolvers<{ status: number; text: string }>();
    const type = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
    const sent = request({
      ...{ host: '127.0.0.1', port: this.port, path, method, ca: this.ca, agent: false },
      headers: { authorization: `Bearer ${ADMIN}`, 'content-type': type },
    });
    sent.on('error', reject).on('response', (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk) => {
        text += chunk;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text })).on('error', reject);
    });
    sent.end(body === undefined ? undefined : JSON.stringify(body));
    return await promise;
  }

  /** A user may write Events, too. */
  async allowEvents(user: string): Promise<void> {
    const name = `${user}-events`;
    const rules = [{ apiGroups: ['events.k8s.io'], resources: ['events'], verbs: ['create', 'get', 'patch'] }];
    await this.do('POST', `${RBAC}/clusterroles`, { metadata: { name }, rules });
    await this.#bind(user, name);
  }

  async #bind(user: string, role: string): Promise<void> {
    const group = 'rbac.authorization.k8s.io';
    const roleRef = { apiGroup: group, kind: 'ClusterRole', name: role };
    const subjects = [{ apiGroup: group, kind: 'User', name: user }];
    await this.do('POST', `${RBAC}/clusterrolebindings`, { metadata: { name: role }, roleRef, subjects });
  }

  /** From now on a user may list and watch these, and nothing else. */
  async allow(user: string, resources: readonly string[]): Promise<void> {
    const rules = [{ apiGroups: ['', 'networking.k8s.io', 'discovery.k8s.io'], resources, verbs: ['list', 'watch'] }];
    const { status } = await this.ask('PATCH', `${RBAC}/clusterroles/${user}`, { rules });
    if (status === 200) return;
    await this.do('POST', `${RBAC}/clusterroles`, { metadata: { name: user }, rules });
    await this.#bind(user, user);
  }

  /** Forgets all versions but the latest. */
  compact(): void {
    const status = this.#etcdctl(['endpoint', 'status', '--write-out=json']);
    const revision = /"revision":(\d+)/.exec(status)?.[1] ?? '';
    this.#etcdctl(['compact', revision]);
  }

  snapshot(): string {
    const path = join(this.folder, 'snapshot.db');
    this.#etcdctl(['snapshot', 'save', path]);
    return path;
  }

  /** As after a disaster: all is stopped, the store is what it was when the snapshot was made, and all is started. */
  async restore(snapshot: string): Promise<void> {
    await end(this.#api);
    await end(this.#etcd);
    this.#store++;
    const own = ['--name', 'it', '--initial-cluster', `it=${this.#peerUrl}`, '--initial-advertise-peer-urls'];
    this.#etcdctl(['snapshot', 'restore', snapshot, '--data-dir', this.#data, ...own, this.#peerUrl]);
    this.#startEtcd();
    await this.startApiServer();
  }

  async close(): Promise<void> {
    await end(this.#api);
    await end(this.#etcd);
    rmSync(this.folder, { recursive: true });
  }

  get #peerUrl(): string {
    return `http://127.0.0.1:${this.#ports.peer}`;
  }

  get #data(): string {
    return join(this.folder, `store-${this.#store}`);
  }

  #startEtcd(): void {
    const url = `http://127.0.0.1:${this.#ports.etcd}`;
    this.#etcd = this.#run(ETCD, [
      ...['--name', 'it', '--data-dir', this.#data],
      ...['--listen-client-urls', url, '--advertise-client-urls', url],
      ...['--listen-peer-urls', this.#peerUrl, '--initial-advertise-peer-urls', this.#peerUrl],
      ...['--initial-cluster', `it=${this.#peerUrl}`],
    ]);
  }

  #etcdctl(args: readonly string[]): string {
    const endpoints = ['--endpoints', `http://127.0.0.1:${this.#ports.etcd}`];
    const env = { ...process.env, ETCDCTL_API: '3' };
    return execFileSync('/usr/bin/etcdctl', [...endpoints, ...args], { env, encoding: 'utf8', stdio: 'pipe' });
  }

  #run(program: string, args: readonly string[]): ChildProcess {
    mkdirSync(this.folder, { recursive: true });
    const log = openSync(join(this.folder, `${program.split('/').at(-1)}.log`), 'a');
    const child = spawn(program, args, { stdio: ['ignore', log, log] });
    closeSync(log);
    return child;
  }
}

async function end(child: ChildProcess | null): Promise<void> {
  if (child === null || child.exitCode !== null || child.signalCode !== null) return;
  const over = once(child, 'exit');
  child.kill('SIGKILL');
  await over;
}

async function freePorts(count: number): Promise<readonly number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => once(server.close(), 'close')));
  return ports;
}

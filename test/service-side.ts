// One side of test/service-times.ts, a process of its own: a node with an API server that has so many Services, which Moat serves,
// or kube-proxy by nftables alone, without Moat's hooks. `service-side.ts BY COUNT`, started with a channel for messages.
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause, setImmediate as turn } from 'node:timers/promises';
import * as sockets from '#kernel/sockets.ts';
import { ApiBed } from './support/api-bed.ts';
import { KUBERNETES_BIN } from './support/needs.ts';
import { NODE } from './support/node-bed.ts';
import { address } from './support/pod-bed.ts';

const SERVICES = '/api/v1/namespaces/shop/services';
const SLICES = '/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices';
const CLUSTER = '10.96.1.10';
const PORT = 80;
const TARGET = 8080;
/** Requests to the API at a time. */
const WRITERS = 16;
const UPDATES = 10;
/** kube-proxy writes once a second at most: an update comes when it may write at once. */
const BETWEEN_MS = 1500;
const LIMIT_MS = 60_000;

/** What the side says of its pods, once connections to its Service come about. */
export type SideReady = { readonly kind: 'ready'; readonly pair: string };
/** From the request that changes endpoints to the first connection to the new one; `cpuMs`: of the proxy for each, without what it takes idle. */
export type SideUpdated = { readonly kind: 'updated'; readonly tookMs: readonly number[]; readonly cpuMs: number };

class Side {
  readonly #bed: ApiBed;
  readonly #by: string;
  readonly #addresses: string[] = [];
  #proxy: ChildProcess | null = null;

  constructor(bed: ApiBed, by: string) {
    this.#bed = bed;
    this.#by = by;
  }

  async fill(count: number): Promise<void> {
    const bed = this.#bed;
    await bed.startAgent();
    for (const name of ['client', 'a', 'b']) this.#addresses.push((await bed.run(name))[0] ?? '');
    await this.#make('target', CLUSTER, [this.#addresses[1] ?? '']);
    let next = 1;
    const write = async (): Promise<void> => {
      for (let each = next++; each < count; each = next++) {
        const host = `${(each >> 7) & 127}.${1 + (each & 127)}`;
        await this.#make(`s${each}`, `10.96.${10 + (each >> 7)}.${1 + (each & 127)}`, [
          `10.91.${host}`,
          `10.92.${host}`,
        ]);
      }
    };
    await Promise.all(Array.from({ length: WRITERS }, write));
    if (this.#by === 'kube-proxy') await this.#leaveToKubeProxy();
    await this.#reaches(1, performance.now());
    const tables = execFileSync('nft', ['list', 'tables'], { encoding: 'utf8' });
    assert.equal(tables.includes('kube-proxy'), this.#by === 'kube-proxy', tables);
  }

  async #make(name: string, clusterIP: string, addresses: readonly string[]): Promise<void> {
    const ports = [{ name: 'web', protocol: 'TCP', port: PORT, targetPort: TARGET }];
    await this.#bed.plane.do('POST', SERVICES, { metadata: { name }, spec: { clusterIP, ports } });
    await this.#bed.plane.do('POST', SLICES, {
      metadata: { name, labels: { 'kubernetes.io/service-name': name } },
      addressType: 'IPv4',
      ports: [{ name: 'web', protocol: 'TCP', port: TARGET }],
      endpoints: endpointsOf(addresses),
    });
  }

  /** Links and routes stay as Moat's CNI made them; nothing of Moat judges or serves any more. */
  async #leaveToKubeProxy(): Promise<void> {
    const bed = this.#bed;
    await bed.node.detachHooks();
    await bed.node.killAgent();
    const log = openSync(join(bed.plane.folder, 'kube-proxy.log'), 'a');
    const args = [
      ...['--proxy-mode=nftables', `--hostname-override=${NODE}`, `--kubeconfig=${bed.plane.kubeconfig('admin')}`],
      ...['--detect-local-mode=ClusterCIDR', '--cluster-cidr=10.90.0.0/16', '--conntrack-max-per-core=0'],
      ...['--conntrack-min=0', '--conntrack-tcp-timeout-established=0s', '--conntrack-tcp-timeout-close-wait=0s'],
    ];
    this.#proxy = spawn(join(KUBERNETES_BIN, 'kube-proxy'), args, { stdio: ['ignore', log, log] });
    closeSync(log);
  }

  get pair(): string {
    const [client, server] = ['client', 'a'].map((name) => this.#bed.node.netns(name));
    return [client, server, this.#addresses[1], TARGET, CLUSTER, PORT].join(',');
  }

  async update(): Promise<SideUpdated> {
    const idleMs = await this.#cpuOf(() => pause(UPDATES * BETWEEN_MS));
    const tookMs: number[] = [];
    const busyMs = await this.#cpuOf(async () => {
      for (let each = 0; each < UPDATES; each++) {
        const at = 2 - (each % 2);
        const startedMs = performance.now();
        const change = this.#bed.plane.do('PATCH', `${SLICES}/target`, {
          endpoints: endpointsOf([this.#addresses[at] ?? '']),
        });
        tookMs.push(await this.#reaches(at, startedMs));
        await change;
        await pause(Math.max(0, BETWEEN_MS - (performance.now() - startedMs)));
      }
    });
    return { kind: 'updated', tookMs, cpuMs: (busyMs - idleMs) / UPDATES };
  }

  async #cpuOf(work: () => Promise<unknown>): Promise<number> {
    const pid = (this.#proxy ?? this.#bed.node.agent).pid ?? 0;
    const before = cpuMs(pid);
    await work();
    return cpuMs(pid) - before;
  }

  /** Asks the Service until the pod of this number answers; milliseconds since then. */
  async #reaches(at: number, sinceMs: number): Promise<number> {
    const listeners = this.#addresses.slice(1).map((text, index) => {
      const fd = this.#inside(index === 0 ? 'a' : 'b', () => sockets.openSocket(4, 'stream'));
      sockets.reuseAddress(fd);
      sockets.bindSocket(fd, address(text), TARGET);
      sockets.listenSocket(fd, 16);
      return fd;
    });
    try {
      // Whatever else this process does (the request, for one) comes in between.
      for (; performance.now() - sinceMs < LIMIT_MS; await pause(1)) {
        if ((await this.#answers(listeners)) === at) return performance.now() - sinceMs;
      }
      throw new Error(`the Service does not lead to the pod after ${LIMIT_MS} ms`);
    } finally {
      for (const fd of listeners) sockets.closeSocket(fd);
    }
  }

  /** Which pod takes a new connection; 0: none does at once. */
  async #answers(listeners: readonly number[]): Promise<number> {
    const client = this.#inside('client', () => sockets.openSocket(4, 'stream'));
    try {
      sockets.connectSocket(client, address(CLUSTER), PORT);
      for (const endMs = performance.now() + 5; performance.now() < endMs; await turn()) {
        for (const [index, listener] of listeners.entries()) {
          const taken = sockets.acceptSocket(listener);
          if (taken === null) continue;
          sockets.closeSocket(taken);
          return index + 1;
        }
      }
      return 0;
    } finally {
      sockets.resetOnClose(client);
      sockets.closeSocket(client);
    }
  }

  #inside<T>(name: string, work: () => T): T {
    const file = sockets.openNetns(this.#bed.node.netns(name));
    try {
      return sockets.inNetns(file, work);
    } finally {
      sockets.closeSocket(file);
    }
  }

  async end(): Promise<void> {
    this.#proxy?.kill('SIGKILL');
    await this.#bed.destroy();
  }
}

function endpointsOf(addresses: readonly string[]): readonly object[] {
  return addresses.map((each) => ({ addresses: [each], conditions: { ready: true }, nodeName: NODE }));
}

/** proc_pid_stat(5): of a process and the children that it waited for, in clock ticks of 10 ms. */
function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return 10 * [11, 12, 13, 14].reduce((sum, index) => sum + Number(fields[index]), 0);
}

async function main([by = '', count = '']: readonly string[]): Promise<void> {
  const bed = await ApiBed.start(`svc${by.slice(0, 4)}`, by === 'moat' ? ['--services', 'moat'] : []);
  const side = new Side(bed, by);
  const say = (message: SideReady | SideUpdated): void => void process.send?.(message);
  const fail = async (error: unknown): Promise<void> => {
    await side.end();
    console.error(error);
    process.exit(1);
  };
  process.on('message', (asked) => {
    if (asked === 'update') void side.update().then(say, fail);
    else void side.end().then(() => process.exit(0));
  });
  await side.fill(Number(count)).then(() => say({ kind: 'ready', pair: side.pair }), fail);
}

await main(process.argv.slice(2));

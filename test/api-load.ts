// What an agent takes that follows a real API server (kube-apiserver, etcd) with 5 000 pods, of which 20 a second end and are
// made anew: memory, processor time, and how late the kernel is. Needs root, and `make kubernetes`. SECONDS=N of churn (60).
// OPTIONS: more of `moat agent`.
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import {
  bindSocket,
  closeSocket,
  enterNetns,
  inNetns,
  openNetns,
  openSocket,
  receiveSocket,
  sendSocket,
} from '#kernel/sockets.ts';
import { apiPod, LOCAL_NODE, NODES, podStatus } from '../bench/api-pods.ts';
import { Figures } from '../bench/figure.ts';
import { cpuSeconds, forgetPeak, resident } from '../bench/process-memory.ts';
import { ApiCluster, PODS, pathOf, Writer } from './support/api-cluster.ts';
import { ControlPlane, EVERYTHING, OF_SERVICES } from './support/control-plane.ts';
import { NODE_ADDRESSES, NodeBed } from './support/node-bed.ts';
import { address } from './support/pod-bed.ts';

const ROOT = join(import.meta.dirname, '..');
const SECONDS = Number(process.env.SECONDS ?? 60);
const QUIET_SECONDS = 20;
const OPTIONS = (process.env.OPTIONS ?? '').split(' ').filter((word) => word !== '');
const BARS = { memory: { most: 110 }, cpu: { most: 3 } } as const;

class Bench {
  readonly #node = new NodeBed('apiload', { node: LOCAL_NODE, addresses: NODE_ADDRESSES });
  readonly #figures: Figures;
  readonly #addresses = new Map<string, string>();
  #cluster: ApiCluster | null = null;

  constructor(figures: Figures) {
    this.#figures = figures;
  }

  async run(): Promise<void> {
    enterNetns(this.#node.netns('node'));
    const plane = await ControlPlane.start(['agent']);
    const cluster = new ApiCluster(plane);
    this.#cluster = cluster;
    await plane.allow('agent', [...EVERYTHING, ...OF_SERVICES]);
    await plane.allowEvents('agent');
    say(`${PODS} pods are made`);
    await cluster.fill();
    say('the agent starts');
    const startedMs = performance.now();
    const pid = (await this.#startAgent(plane)).pid ?? 0;
    this.#print('start to ready', (performance.now() - startedMs) / 1000, 's');
    await this.#attach(cluster);
    this.#memory(pid, 'after the list');
    // New interfaces get their links one by one.
    if (!(await this.#node.soon(() => !this.#node.hooks().includes('filter'), 120_000)))
      throw new Error('filters stay');
    await this.#cpu(pid, 'nothing changes', () => pause(QUIET_SECONDS * 1000));
    forgetPeak(pid);
    say('pods come and go');
    const delays: number[] = [];
    const endMs = performance.now() + SECONDS * 1000;
    await this.#cpu(pid, '20 pods/s', async () => {
      const [made] = await Promise.all([cluster.churn(endMs), this.#delays(cluster, endMs, delays)]);
      this.#print('pods made anew a second', made / SECONDS, '1/s');
    });
    this.#memory(pid, 'under churn');
    delays.sort((a, b) => a - b);
    const at = (part: number): number => delays[Math.ceil(delays.length * part) - 1] ?? Number.NaN;
    this.#print(`change to packet, p50 of ${delays.length}`, at(0.5), 'ms');
    this.#print('change to packet, longest', at(1), 'ms');
  }

  async #startAgent(plane: ControlPlane): Promise<ChildProcess> {
    const { folder, instance } = this.#node;
    const own = ['--node', LOCAL_NODE, '--instance', instance, '--socket', join(folder, 'agent.sock')];
    const follow = ['--kubeconfig', plane.kubeconfig('agent'), '--cni-folder', join(folder, 'cni')];
    const args = ['agent', ...own, ...follow, ...OPTIONS];
    const agent = spawn('./moat', args, { cwd: ROOT, stdio: ['ignore', 'ignore', 'inherit'] });
    await this.#node.serves(agent);
    return agent;
  }

  /** This node's pods get links. */
  async #attach({ writer, uids }: ApiCluster): Promise<void> {
    for (let index = 0; index < PODS; index += NODES) {
      const pod = apiPod(index, 0);
      this.#node.addNetns(pod.name);
      const netns = this.#node.netns(pod.name);
      const [given = ''] = await this.#node.add(`c-${index}`, netns, pod.name, uids.get(index));
      this.#addresses.set(pod.name, given);
      await writer.do('PATCH', `${pathOf(pod)}/status`, podStatus({ ...pod, address: given }, 'Running'));
    }
  }

  /**
   * A label of a local pod opens a door to another one, and shuts it. Told is the time from the request, before the server
   * has answered it, to the first datagram that the kernel lets through.
   */
  async #delays({ plane }: ApiCluster, endMs: number, delays: number[]): Promise<void> {
    // Its requests wait for nobody else's.
    const writer = new Writer(plane);
    const [guest, host] = [apiPod(0, 0), apiPod(NODES, 0)];
    const ingress = [
      { from: [{ podSelector: { matchLabels: { door: 'open' } } }], ports: [{ port: 9999, protocol: 'UDP' }] },
    ];
    await writer.do('POST', `/apis/networking.k8s.io/v1/namespaces/${host.namespace}/networkpolicies`, {
      metadata: { name: 'door', namespace: host.namespace },
      spec: { podSelector: { matchLabels: { app: host.app } }, ingress },
    });
    const to = { address: address(this.#addresses.get(host.name) ?? ''), port: 9999 };
    const receiver = this.#socket(host.name);
    bindSocket(receiver, to.address, to.port);
    const turn = async (door: 'open' | 'shut', limitMs: number): Promise<number | null> => {
      // A flow of before would have its own verdict.
      const sender = this.#socket(guest.name);
      const room = Buffer.alloc(64);
      while (receiveSocket(receiver, room).kind === 'done');
      const startedMs = performance.now();
      const asked = writer.do('PATCH', pathOf(guest), { metadata: { labels: { door } } });
      let arrivedMs: number | null = null;
      for (const limit = startedMs + limitMs; arrivedMs === null && performance.now() < limit; await pause(1)) {
        sendSocket(sender, Buffer.from('x'), to);
        if (receiveSocket(receiver, room).kind === 'done') arrivedMs = performance.now() - startedMs;
      }
      await asked;
      closeSocket(sender);
      return arrivedMs;
    };
    while (performance.now() < endMs - 5000) {
      const opened = await turn('open', 5000);
      if (opened === null) throw new Error('the door stays shut');
      delays.push(opened);
      await writer.do('PATCH', pathOf(guest), { metadata: { labels: { door: 'shut' } } });
      await pause(1000);
    }
    closeSocket(receiver);
    writer.close();
  }

  #socket(pod: string): number {
    const netns = openNetns(this.#node.netns(pod));
    const socket = inNetns(netns, () => openSocket(4, 'datagram'));
    closeSocket(netns);
    return socket;
  }

  #memory(pid: number, when: string): void {
    const { now, peak, tables, files, written, anonymous } = resident(pid);
    const bar = when === 'under churn' ? { bar: BARS.memory } : {};
    this.#print(`agent resident, ${when}: peak without mapped tables`, peak - tables, 'MB', bar);
    this.#print(`agent resident, ${when}: peak`, peak, 'MB');
    this.#print(`agent resident, ${when}: now`, now, 'MB');
    this.#print(`agent resident, ${when}: tables of the kernel`, tables, 'MB');
    this.#print(`agent resident, ${when}: Node's file and libraries`, files, 'MB');
    this.#print(`agent resident, ${when}: of those its own`, written, 'MB');
    this.#print(`agent resident, ${when}: heaps and stacks`, anonymous, 'MB');
  }

  async #cpu(pid: number, when: string, work: () => Promise<void>): Promise<void> {
    const [before, startedMs] = [cpuSeconds(pid), performance.now()];
    await work();
    const percent = (100 * (cpuSeconds(pid) - before)) / ((performance.now() - startedMs) / 1000);
    this.#print(`agent CPU, ${when}`, percent, '% of a core', { bar: BARS.cpu });
  }

  #print(name: string, value: number, unit: string, more: { readonly bar?: { readonly most: number } } = {}): void {
    const rounded = Math.round(value * 10) / 10;
    this.#figures.print({ name: `api ${name}`, value: rounded, unit, baseline: null, ratio: null, ...more });
  }

  async destroy(): Promise<void> {
    this.#cluster?.writer.close();
    await this.#node.destroy();
    await this.#cluster?.plane.close();
  }
}

function say(text: string): void {
  process.stderr.write(`bench: ${text}\n`);
}

const figures = new Figures();
const bench = new Bench(figures);
try {
  await bench.run();
} finally {
  await bench.destroy();
}
figures.close();

// A cluster of 5 000 pods in a real API server, and pods that come and go in it as a workload's controller, a scheduler and
// kubelets would have them.
import { Agent, request } from 'node:https';
import { setTimeout as pause } from 'node:timers/promises';
import { fieldsOf } from '#policy/fields.ts';
import {
  type ApiPod,
  apiPod,
  LOCAL_NAMESPACE,
  LOCAL_NODE,
  NAMESPACES,
  NODES,
  podObject,
  podStatus,
  policiesOf,
} from '../../bench/api-pods.ts';
import type { ControlPlane } from './control-plane.ts';
import { NODE_ADDRESSES } from './node-bed.ts';

export const PODS = 5000;
const CHURN_A_SECOND = 20;
/** Requests at a time while the cluster is made. */
const WIDTH = 16;
/** How long a pod that is told to end takes. */
const END_MS = 2000;

/** Makes what is asked for by connections that stay open: a connection each costs the server more than the request. */
export class Writer {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: WIDTH });
  readonly #plane: ControlPlane;

  constructor(plane: ControlPlane) {
    this.#plane = plane;
  }

  async do(method: 'POST' | 'PATCH' | 'DELETE', path: string, body: object = {}): Promise<unknown> {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const type = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
    const text = JSON.stringify(body);
    // Node says no length for DELETE, and the server would take the body for the next request.
    const headers = { authorization: 'Bearer admin', 'content-type': type, 'content-length': Buffer.byteLength(text) };
    const { port, ca } = this.#plane;
    const sent = request({ host: '127.0.0.1', port, ca, agent: this.#agent, method, path, headers }, (answer) => {
      const parts: string[] = [];
      answer.setEncoding('utf8').on('data', (part) => void parts.push(part));
      answer.on('error', reject).on('end', () => {
        const status = answer.statusCode ?? 0;
        if (status >= 200 && status <= 299) resolve(JSON.parse(parts.join('')));
        else reject(new Error(`${method} ${path}: ${status} ${parts.join('').slice(0, 500)}`));
      });
    });
    sent.on('error', reject).end(text);
    return await promise;
  }

  close(): void {
    this.#agent.destroy();
  }
}

/** The cluster, and what happens in it. */
export class ApiCluster {
  readonly plane: ControlPlane;
  readonly writer: Writer;
  /** Uids of the pods' first lives, by index. */
  readonly uids: Map<number, string> = new Map();
  readonly #lives = new Map<number, number>();
  readonly #failures: unknown[] = [];

  constructor(plane: ControlPlane) {
    this.plane = plane;
    this.writer = new Writer(plane);
  }

  async fill(): Promise<void> {
    const { writer } = this;
    for (let node = 0; node < NODES; node++) {
      const podCIDR = `10.100.${node}.0/24`;
      const metadata = { name: `node-${node}` };
      await writer.do('POST', '/api/v1/nodes', { metadata, spec: { podCIDR, podCIDRs: [podCIDR] } });
      const internal = node === 0 ? NODE_ADDRESSES[0] : `192.0.2.${100 + node}`;
      const addresses = [{ type: 'InternalIP', address: internal }];
      await writer.do('PATCH', `/api/v1/nodes/node-${node}/status`, { status: { addresses } });
    }
    for (const name of [LOCAL_NAMESPACE, ...Array.from({ length: NAMESPACES }, (_, team) => `team-${team}`)]) {
      const labels = name === 'team-0' ? { role: 'monitoring' } : {};
      await writer.do('POST', '/api/v1/namespaces', { metadata: { name, labels } });
      for (const policy of policiesOf(name)) {
        await writer.do('POST', `/apis/networking.k8s.io/v1/namespaces/${name}/networkpolicies`, policy);
      }
    }
    let next = 0;
    const work = async (): Promise<void> => {
      for (let index = next++; index < PODS; index = next++) this.uids.set(index, await this.begin(index, 0));
    };
    await Promise.all(Array.from({ length: WIDTH }, work));
  }

  /** A pod comes: made, bound to its node, and told of by its kubelet twice; those of the measured node once, before their CNI. Its uid. */
  async begin(index: number, life: number): Promise<string> {
    this.#lives.set(index, life);
    const pod = apiPod(index, life);
    const made = await this.writer.do('POST', `/api/v1/namespaces/${pod.namespace}/pods`, podObject(pod));
    const target = { apiVersion: 'v1', kind: 'Node', name: pod.node };
    await this.writer.do('POST', `${pathOf(pod)}/binding`, { metadata: { name: pod.name }, target });
    await this.writer.do('PATCH', `${pathOf(pod)}/status`, podStatus(pod, 'Pending'));
    if (pod.node !== LOCAL_NODE) await this.writer.do('PATCH', `${pathOf(pod)}/status`, podStatus(pod, 'Running'));
    return String(fieldsOf(fieldsOf(made).metadata).uid);
  }

  /** A pod goes: it is told to, its kubelet says that it has ended, and it is gone. */
  async end(index: number): Promise<void> {
    const pod = apiPod(index, this.#lives.get(index) ?? 0);
    await this.writer.do('DELETE', pathOf(pod), { gracePeriodSeconds: 30 });
    await pause(END_MS);
    await this.writer.do('PATCH', `${pathOf(pod)}/status`, podStatus(pod, 'Succeeded'));
    await this.writer.do('DELETE', pathOf(pod), { gracePeriodSeconds: 0 });
  }

  /** Pods of other nodes in turn, until the time is over. Returns how many were made anew. */
  async churn(endMs: number): Promise<number> {
    let made = 0;
    const running = new Set<Promise<void>>();
    for (let at = performance.now(), index = 1; at < endMs; at += 1000 / CHURN_A_SECOND, index++) {
      await pause(Math.max(0, at - performance.now()));
      const place = (index * 7) % PODS;
      if (apiPod(place, 0).node === LOCAL_NODE) continue;
      const one = this.#renew(place).catch((error) => void this.#failures.push(error));
      running.add(one);
      void one.finally(() => running.delete(one));
      made++;
    }
    await Promise.all(running);
    if (this.#failures.length > 0) throw new Error('the churn failed', { cause: this.#failures[0] });
    return made;
  }

  async #renew(index: number): Promise<void> {
    const end = this.end(index);
    const life = (this.#lives.get(index) ?? 0) + 1;
    await Promise.all([end, this.begin(index, life)]);
  }
}

/** Where the API has it. */
export function pathOf({ namespace, name }: ApiPod): string {
  return `/api/v1/namespaces/${namespace}/pods/${name}`;
}

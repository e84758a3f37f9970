// Interfaces whose pods' policy is this agent's matter: what a fresh start of the datapath attaches again.
import { InterfaceError } from '#datapath/ebpf/links.ts';
import { causesOf } from './causes.ts';
import { readAddress, readLink } from './endpoint-link.ts';
import type { HookRepair, NodeState } from './node-state.ts';
import type { AttachRequest } from './protocol.ts';

export class AttachedLinks {
  /** What was attached and not detached, by interface. */
  readonly #all: Map<number, AttachRequest> = new Map();

  get size(): number {
    return this.#all.size;
  }

  add(requests: readonly AttachRequest[]): void {
    for (const request of requests) this.#all.set(request.interfaceIndex, request);
  }

  remove(interfaceIndex: number): void {
    this.#all.delete(interfaceIndex);
  }

  /** How people are to know an interface. */
  nameOf(interfaceIndex: number): string {
    return this.#all.get(interfaceIndex)?.pod ?? 'an uplink';
  }

  /** How many there are, by whether the policy of all their addresses is in force. */
  counts(state: NodeState | null): { readonly enforced: number; readonly closed: number } {
    const enforced = [...this.#all.values()].filter((request) => areEnforced(state, [request])).length;
    return { enforced, closed: this.#all.size - enforced };
  }

  /** Attaches all of them to a state that knows of none; those that are gone are forgotten. */
  attachAll(state: NodeState): void {
    for (const request of this.#all.values()) this.#attach(state, request);
  }

  /**
   * Attaches a pod that runs, without waiting for the kernel. Why it can't have hooks, which is a matter of its interface; null where
   * it has them, or where there is no state that works: then a fresh start attaches it.
   */
  adopt(state: NodeState | null, request: AttachRequest): string | null {
    try {
      state?.attachNew(readLink(request), adoptForMs(request));
    } catch (error) {
      if (state?.failure === null) return causesOf(error);
    }
    this.add([request]);
    return null;
  }

  /** The interface is nobody's any more: its hooks stay, and without addresses nothing that passes them is anybody's. */
  seal(state: NodeState, interfaceIndex: number): void {
    const request = this.#all.get(interfaceIndex);
    if (request === undefined) return;
    const sealed = { ...request, addresses: [] };
    this.add([sealed]);
    this.#attach(state, sealed);
  }

  /** Forgets a pod that is gone from the cluster, and its interface, too: nobody need ask for its end. False where it is neither. */
  forget(state: NodeState, { interfaceIndex, gone }: HookRepair): boolean {
    const others = [...this.#all.values()].filter((each) => each.interfaceIndex !== interfaceIndex);
    const elsewhere = new Set(others.flatMap((each) => each.addresses));
    const pod = this.#all.get(interfaceIndex);
    const own = pod?.addresses.filter((address) => !elsewhere.has(address)) ?? [];
    if (!gone || pod === undefined || own.some((address) => state.enforces(pod.pod, readAddress(address)))) {
      return false;
    }
    this.#all.delete(interfaceIndex);
    state.detach(interfaceIndex);
    return true;
  }

  #attach(state: NodeState, request: AttachRequest): void {
    try {
      state.attach(readLink(request), adoptForMs(request));
    } catch (error) {
      if (!(error instanceof InterfaceError)) throw error;
      this.#all.delete(request.interfaceIndex);
      state.detach(request.interfaceIndex);
    }
  }
}

/** The policy of every address is in force. */
export function areEnforced(state: NodeState | null, requests: readonly AttachRequest[]): boolean {
  return requests.every(({ pod, addresses }) => {
    return addresses.every((text) => state?.enforces(pod, readAddress(text)) === true);
  });
}

function adoptForMs({ adoptUntilMs }: AttachRequest): number {
  return adoptUntilMs === undefined ? 0 : Math.max(0, Math.round(adoptUntilMs - monotonicMs()));
}

/** Since the machine started: the same clock for all processes. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}

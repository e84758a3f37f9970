// Pods that have come to this node, and wait: a pod's policies are known here before the pod is. Pure.
import type { ClusterEvent, Pod, PodKey, WorldEvent } from '#policy/world.ts';

type PodEvent = WorldEvent & { readonly kind: 'pod' };

/**
 * Pods and policies come over connections of their own, each in its own time. So a pod that comes to this node is kept
 * back until somebody has seen that the policies of its namespace are known as they are in the API server.
 */
export class NewPods {
  readonly #node: string;
  /** Pods of this node that wait no more, and their uids: one of the same name with another uid is another pod. */
  readonly #known = new Map<PodKey, string>();
  readonly #waiting = new Map<PodKey, WorldEvent & { readonly value: Pod }>();
  #isKeeping = false;

  constructor(node: string) {
    this.#node = node;
  }

  /** Pods that come from now on wait. Those that came before need not, where policies are listed only now. */
  keep(): void {
    this.#isKeeping = true;
  }

  /** What may be told of an event now. */
  follow(event: ClusterEvent): readonly ClusterEvent[] {
    return event.kind === 'pod' ? this.#pod(event) : [event];
  }

  /** Namespaces of pods that wait. */
  get namespaces(): ReadonlySet<string> {
    return new Set([...this.#waiting.values()].map(({ value }) => value.namespace));
  }

  waitingIn(namespace: string): readonly Pod[] {
    return [...this.#waiting.values()].map(({ value }) => value).filter((pod) => pod.namespace === namespace);
  }

  /** These wait no more: what is to be told of them, as far as they are still there. */
  admit(pods: readonly Pod[]): readonly WorldEvent[] {
    return pods.flatMap((pod) => {
      const event = this.#waiting.get(pod.key);
      if (event === undefined || event.value.uid !== pod.uid) return [];
      this.#waiting.delete(pod.key);
      this.#known.set(pod.key, uidOf(pod));
      return [event];
    });
  }

  #pod(event: PodEvent): readonly WorldEvent[] {
    const { key, value } = event;
    this.#waiting.delete(key);
    if (value === null || value.node !== this.#node || value.hostNetwork || value.finished) {
      this.#known.delete(key);
      return [event];
    }
    if (!this.#isKeeping || this.#known.get(key) === uidOf(value)) {
      this.#known.set(key, uidOf(value));
      return [event];
    }
    this.#waiting.set(key, { ...event, value });
    // Nothing that was said of the pod that had the name before holds for this one.
    return this.#known.delete(key) ? [{ kind: 'pod', key, value: null }] : [];
  }
}

function uidOf({ uid = '' }: Pod): string {
  return uid;
}

// What the pod network hears of the cluster: its nodes, once all of them are known.
import type { Follower } from '#cluster/follower.ts';
import type { ClusterNode } from '#network/node-plan.ts';
import type { ClusterEvent } from '#policy/world.ts';

/** Who keeps routes to the cluster's nodes. */
export type NodesFollower = { follow(nodes: ReadonlyMap<string, ClusterNode>): void };

/** Passes everything on; `network`, where there is one, is told of all nodes with each batch that changes some. */
export function withNetwork(follower: Follower, network: NodesFollower | null): Follower {
  if (network === null) return follower;
  const nodes = new Map<string, ClusterNode>();
  // Of a cluster without nodes, too, it should know.
  let changed = true;
  const read = (events: readonly ClusterEvent[]): void => {
    for (const event of events) {
      if (event.kind !== 'node') continue;
      changed = true;
      if (event.value === null) nodes.delete(event.name);
      else nodes.set(event.name, event.value);
    }
  };
  return {
    note: (events) => {
      read(events);
      follower.note(events);
    },
    apply: (batch) => {
      read(batch.events);
      follower.apply(batch);
      if (!changed) return;
      changed = false;
      network.follow(nodes);
    },
    known: () => follower.known(),
  };
}

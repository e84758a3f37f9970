// Changes of a world as people hear of them.
import type { World, WorldEvent } from '#policy/world.ts';

/** `networkpolicy added: shop/allow-web`, one line a change. */
export function describeChanges(before: World, events: readonly WorldEvent[]): readonly string[] {
  return events.map((event) => {
    const name = 'key' in event ? event.key : event.name;
    const known = {
      policy: () => before.policies.has(name as never),
      pod: () => before.pods.has(name as never),
      namespace: () => before.namespaces.has(name),
      node: () => before.nodes.has(name),
    }[event.kind]();
    const what = event.value === null ? 'removed' : known ? 'changed' : 'added';
    return `${event.kind} ${name} ${what}`;
  });
}

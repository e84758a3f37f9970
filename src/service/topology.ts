// Which of a Service's endpoints are near a node, by the hints that the cluster's EndpointSlice controller gives them. The
// rules are kube-proxy's: hints count only where every endpoint has some, and never leave a node with nobody.
import type { Address } from '#net/address.ts';
import type { SliceEndpoint } from '#policy/service.ts';

/** Where clients are. `zone` is '' where the node's label names none; `addresses` are the node's own. */
export type NodePlace = { readonly node: string; readonly zone: string; readonly addresses: readonly Address[] };

type Hinted = { readonly endpoint: SliceEndpoint };

/**
 * Those of the ready endpoints that are for clients of a node: by hints for nodes, else by hints for zones, else all. One
 * without a hint says that the hints are not whole, as while they are being given: none of the kind counts then.
 */
export function nearest<Each extends Hinted>(ready: readonly Each[], { node, zone }: NodePlace): readonly Each[] {
  return hintedFor(ready, 'nodes', node) ?? hintedFor(ready, 'zones', zone) ?? ready;
}

/** Whether where a node is may change who serves its clients. */
export function hasHints(endpoints: readonly SliceEndpoint[]): boolean {
  return endpoints.some(({ hints }) => hints !== undefined);
}

/** null where hints of this kind say nothing: not all endpoints have one, or none is for this name. */
function hintedFor<Each extends Hinted>(
  ready: readonly Each[],
  kind: 'nodes' | 'zones',
  name: string,
): readonly Each[] | null {
  const namesOf = ({ endpoint }: Each): readonly string[] => endpoint.hints?.[kind] ?? [];
  if (ready.some((each) => namesOf(each).length === 0)) return null;
  const near = ready.filter((each) => namesOf(each).includes(name));
  return near.length === 0 ? null : near;
}

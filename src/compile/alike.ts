// Which layer a new one is like: workloads mostly share all policies but their own.
import type { LayerRules } from './layer-rules.ts';
import type { Part } from './parts.ts';

/** A layer, and whether it lacks room for some of its classes. */
type Candidate = { readonly rules: LayerRules; readonly lacking: ReadonlySet<unknown> };

/**
 * The layer that has the most parts in common with these rules, and the parts that only one of the two has: other
 * parts say the same to everybody in both. Null where none has, or where classes depend on more than parts that match.
 */
export function mostAlike<Layer extends Candidate>(
  rules: LayerRules,
  layers: readonly Layer[],
): { readonly layer: Layer; readonly apart: readonly Part[] } | null {
  if (!isPlain(rules)) return null;
  let best: { readonly layer: Layer; readonly apart: readonly Part[] } | null = null;
  for (const layer of layers) {
    if (!isPlain(layer.rules) || layer.lacking.size > 0) continue;
    const apart = rules.partsBeside(layer.rules);
    if (apart.length < (best?.apart.length ?? rules.size)) best = { layer, apart };
  }
  return best;
}

function isPlain({ merged, guarded }: LayerRules): boolean {
  return !merged && !guarded;
}

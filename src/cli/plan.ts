// The Plan of a whole world, every pod local: what simulation, reach and explain ask.
import { diffWorlds } from '#cluster/world/diff.ts';
import { Compiler } from '#compile/compiler.ts';
import type { Plan } from '#compile/plan.ts';
import type { Semantics, World } from '#policy/world.ts';

const EMPTY: World = { namespaces: new Map(), nodes: new Map(), pods: new Map(), policies: new Map() };

/** Compiles the world from nothing. */
export function planOf(world: World, semantics: Semantics): Plan {
  const compiler = new Compiler({ semantics, isLocal: () => true });
  compiler.apply(diffWorlds(EMPTY, world));
  return compiler.plan;
}

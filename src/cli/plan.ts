// The Plan of a whole world, every pod local: what simulation, reach and explain ask.
import { diffWorlds } from '#cluster/world/diff.ts';
import { Compiler } from '#compile/compiler.ts';
import type { Plan } from '#compile/plan.ts';
import { EMPTY_WORLD, type Semantics, type World } from '#policy/world.ts';

/** Compiles the world from nothing. */
export function planOf(world: World, semantics: Semantics): Plan {
  const compiler = new Compiler({ semantics, isLocal: () => true });
  compiler.apply(diffWorlds(EMPTY_WORLD, world));
  return compiler.plan;
}

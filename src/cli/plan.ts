// The Plan of a whole world, every pod local: what simulation, reach and explain ask.
import { diffWorlds } from '#cluster/world/diff.ts';
import { type AskLimits, NODE_ASKS } from '#compile/allowance.ts';
import { Compiler } from '#compile/compiler.ts';
import type { Plan } from '#compile/plan.ts';
import { NODE_SHARE, type Taken } from '#compile/shares.ts';
import { shortageText } from '#compile/shortage.ts';
import { EMPTY_WORLD, type Semantics, type World } from '#policy/world.ts';
import { CommandError } from './errors.ts';

/** Every node's pods are here. More than this takes minutes, and gigabytes. */
const SHARE: Taken = {
  entries: NODE_SHARE.entries * 8,
  ranges: NODE_SHARE.ranges * 4,
  classes: NODE_SHARE.classes * 8,
};

const { blocks, labels } = NODE_ASKS.node;
const ASKS: AskLimits = {
  namespace: { blocks, labels: labels * 4 },
  node: { blocks: blocks * 4, labels: labels * 16 },
};

/** Compiles the world from nothing. Throws where a namespace's policies are too much to compile. */
export function planOf(world: World, semantics: Semantics): Plan {
  const compiler = new Compiler({ semantics, isLocal: () => true, share: SHARE, asks: ASKS });
  compiler.apply(diffWorlds(EMPTY_WORLD, world));
  const [shortage] = compiler.shortages;
  if (shortage !== undefined) throw new CommandError(shortageText(shortage));
  return compiler.plan;
}

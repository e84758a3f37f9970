// What stands side by side in one run: networks of the same shape, each under somebody's policy or nobody's.

import { checkMatrix } from './matrix.ts';
import { startMoat } from './moat.ts';
import { BenchNetwork, type End, type Pair } from './network.ts';
import type { BenchWorld } from './worlds.ts';

/** Something that enforces policy on a network; null of plain routing. `name` has no blank and no comma. */
export type Side = { readonly name: string; readonly world: BenchWorld; readonly enforcer: Enforcer | null };

/** Puts policy in force on a network whose pods are down. Returns what takes it away again, and what it costs in memory. */
export type Enforcer = (instance: string, net: BenchNetwork, world: BenchWorld) => Promise<Running>;

export type Running = {
  /** Resident memory of the larger agent, in MB; null where nothing of the kind runs. */
  readonly memoryMb: () => Promise<number | null>;
  readonly down: () => Promise<void>;
};

type Up = { readonly side: Side; readonly net: BenchNetwork; readonly running: Running | null };

/** Plain kernel routing between the pods of a world. */
export function plainSide(name: string, world: BenchWorld): Side {
  return { name, world, enforcer: null };
}

export function moatSide(name: string, world: BenchWorld): Side {
  return { name, world, enforcer: startMoat };
}

/** All sides of a run. */
export class Sides {
  readonly #up: Map<string, Up> = new Map();

  /** Brings sides up, one after the other. What is up when one fails is taken down. */
  static async start(sides: readonly Side[]): Promise<Sides> {
    const all = new Sides();
    try {
      for (const [index, side] of sides.entries()) await all.#start(side, `b${index}x${process.pid}`);
      return all;
    } catch (error) {
      await all.down();
      throw error;
    }
  }

  pair(name: string, end: End): Pair {
    return this.#of(name).net.pair(`${name}-${end}`, end);
  }

  net(name: string): BenchNetwork {
    return this.#of(name).net;
  }

  async memoryMb(name: string): Promise<number | null> {
    return (await this.#of(name).running?.memoryMb()) ?? null;
  }

  async down(): Promise<void> {
    for (const { net, running } of this.#up.values()) {
      await running?.down();
      await net.destroy();
    }
    this.#up.clear();
  }

  async #start(side: Side, instance: string): Promise<void> {
    const startedMs = performance.now();
    const net = await BenchNetwork.make(instance, side.world.measured);
    this.#up.set(side.name, { side, net, running: null });
    const running = (await side.enforcer?.(instance, net, side.world)) ?? null;
    this.#up.set(side.name, { side, net, running });
    await net.raise();
    if (side.enforcer !== null) await checkMatrix(side.name, net, side.world);
    process.stderr.write(`bench: ${side.name} is up after ${((performance.now() - startedMs) / 1000).toFixed(1)} s\n`);
  }

  #of(name: string): Up {
    const found = this.#up.get(name);
    if (found === undefined) throw new Error(`'${name}' is not part of this run`);
    return found;
  }
}

// `moat probe`: every pod to every pod, and named outside addresses, by real packets or by simulation.
import type { Command } from 'commander';
import { type Probe, simulate } from '#datapath/reference/simulate.ts';
import type { Address } from '#net/address.ts';
import type { SourceObject } from '#policy/object.ts';
import type { World } from '#policy/world.ts';
import { checkExternals } from '#sandbox/addresses.ts';
import type { ProbeRow } from '#sandbox/probe-judge.ts';
import { readInput } from './input.ts';
import {
  datapathOption,
  type InputOptions,
  inputOptions,
  outputOption,
  type PortOption,
  parseAddresses,
  parsePorts,
  semanticsOf,
} from './options.ts';
import { planOf } from './plan.ts';
import { worldProbes } from './probe-ends.ts';
import { groupIn, type Probed, printProbe, simulatedRow } from './probe-output.ts';

type Options = InputOptions & {
  readonly output: 'table' | 'json';
  readonly datapath: 'ebpf' | 'simulate';
  readonly ports?: readonly PortOption[];
  readonly external: readonly Address[];
};

/** Adds the command's options and its action. */
export function define(command: Command, done: (exitCode: number) => void): void {
  inputOptions(command);
  outputOption(command, ['table', 'json'])
    .addOption(datapathOption('real packets through the kernel (needs root), or a simulation', ['ebpf', 'simulate']))
    .option(
      '--ports <list>',
      'ports to try, as in 80/TCP,53/UDP,ICMP (default: on each pod those that it declares)',
      parsePorts,
    )
    .option('--external <list>', 'outside addresses to try as well, as source and as destination', parseAddresses, [])
    .action(async (options: Options) => {
      const { world, objects } = readInput(options);
      checkExternals(world, options.external);
      const found = options.datapath === 'simulate' ? simulated(world, options) : await byPackets(objects, options);
      printProbe(found, { output: options.output, perPort: options.ports !== undefined, groupOf: groupIn(world) });
      done(0);
    });
}

/** Loaded only here: a simulation needs neither root nor the kernel's interfaces. */
async function byPackets(objects: readonly SourceObject[], options: Options): Promise<Probed> {
  const { probeInSandbox } = await import('./probe-packets.ts');
  return await probeInSandbox(objects, semanticsOf(options), {
    ports: options.ports ?? null,
    externals: options.external,
  });
}

function simulated(world: World, options: Options): Probed {
  const { primary, second } = worldProbes(world, { ports: options.ports ?? null, external: options.external });
  const plan = planOf(world, semanticsOf(options));
  const rowsOf = (probes: readonly Probe[]): readonly ProbeRow[] => simulate(plan, probes).map(simulatedRow);
  return { rows: rowsOf(primary), secondFamily: rowsOf(second) };
}

// `moat explain`: the verdict on one connection and why, both ends, tier by tier, rule by rule.
import type { Command } from 'commander';
import { type Explanation, explain } from '#analyze/explain.ts';
import { formatAddress } from '#net/address.ts';
import { ICMP, ICMPV6 } from '#net/protocol.ts';
import type { Flow } from '#policy/verdict.ts';
import type { World } from '#policy/world.ts';
import { explanationText } from './explain-text.ts';
import { readInput } from './input.ts';
import { type InputOptions, inputOptions, outputOption, type PortOption, parsePort, semanticsOf } from './options.ts';
import { print, printJson } from './output.ts';
import { commonFamily, findPlace } from './places.ts';
import { planOf } from './plan.ts';
import { ICMPV6_ECHO, portText } from './probe-ends.ts';

type Options = InputOptions & {
  readonly output: 'text' | 'json';
  readonly from: string;
  readonly to: string;
  readonly port: PortOption;
};

/** Adds the command's options and its action. */
export function define(command: Command, done: (exitCode: number) => void): void {
  inputOptions(command);
  outputOption(command, ['text', 'json'])
    .requiredOption('--from <end>', 'NAMESPACE/POD, NAMESPACE/WORKLOAD or an IP address')
    .requiredOption('--to <end>', 'likewise')
    .requiredOption('--port <port>', 'as in 8080/TCP, or ICMP', parsePort)
    .action((options: Options) => {
      const { world } = readInput(options);
      const semantics = semanticsOf(options);
      const flow = flowOf(world, options);
      const explanation = explain({ world, semantics, plan: planOf(world, semantics) }, flow);
      if (options.output === 'json') printJson(json(explanation, flow, options.port));
      else print(explanationText(explanation, options.port));
      done(explanation.verdict.verdict === 'allow' ? 0 : 1);
    });
}

function flowOf(world: World, { from, to, port }: Options): Flow {
  const pair = commonFamily(findPlace(world, from, '--from'), findPlace(world, to, '--to'));
  if (port.protocol === ICMP && pair.to.family === 6) return { ...pair, protocol: ICMPV6, port: ICMPV6_ECHO };
  return { ...pair, ...port };
}

function json({ verdict, egress, ingress }: Explanation, flow: Flow, port: PortOption): unknown {
  return {
    from: egress.end,
    to: ingress.end,
    addresses: { from: formatAddress(flow.from), to: formatAddress(flow.to) },
    port: portText(port),
    verdict: verdict.verdict,
    rule: { egress: egress.rule, ingress: ingress.rule },
    decidedBy: verdict.decidedBy,
    egress,
    ingress,
  };
}

// `moat explain`: the verdict on one connection and why, both ends, tier by tier, rule by rule.
import type { Command } from 'commander';
import { explain } from '#analyze/explain.ts';
import { formatAddress } from '#net/address.ts';
import { ICMP, ICMPV6 } from '#net/protocol.ts';
import { auditedBy, type Flow } from '#policy/verdict.ts';
import type { World } from '#policy/world.ts';
import { type Explained, explanationText } from './explain-text.ts';
import { readInput } from './input.ts';
import { type InputOptions, inputOptions, outputOption, type PortOption, parsePort, semanticsOf } from './options.ts';
import { print, printJson } from './output.ts';
import { type AddressPair, commonFamilies, findPlace } from './places.ts';
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
      const plan = planOf(world, semantics);
      const explained = (flow: Flow): Explained => ({ flow, explanation: explain({ world, semantics, plan }, flow) });
      const { flow, otherFlow } = flowsOf(world, options);
      const first = explained(flow);
      const other = otherFlow === null ? null : explained(otherFlow);
      if (options.output === 'json') printJson(json(first, other, options.port));
      else print(explanationText(first, other, options.port));
      done(first.explanation.verdict.verdict === 'allow' ? 0 : 1);
    });
}

type Flows = { readonly flow: Flow; readonly otherFlow: Flow | null };

/** A flow for each address family that both ends have: policies by address can tell the families apart. */
function flowsOf(world: World, { from, to, port }: Options): Flows {
  const [first, other] = commonFamilies(findPlace(world, from, '--from'), findPlace(world, to, '--to'));
  return { flow: flowOf(first, port), otherFlow: other === undefined ? null : flowOf(other, port) };
}

function flowOf(pair: AddressPair, port: PortOption): Flow {
  if (port.protocol === ICMP && pair.to.family === 6) return { ...pair, protocol: ICMPV6, port: ICMPV6_ECHO };
  return { ...pair, ...port };
}

function json(first: Explained, other: Explained | null, port: PortOption): unknown {
  const { egress, ingress } = first.explanation;
  return {
    from: egress.end,
    to: ingress.end,
    port: portText(port),
    ...answerOf(first),
    egress,
    ingress,
    otherFamily: other === null ? null : answerOf(other),
  };
}

function answerOf({ flow, explanation }: Explained): object {
  const { verdict, egress, ingress } = explanation;
  const audited = auditedBy(verdict);
  return {
    addresses: { from: formatAddress(flow.from), to: formatAddress(flow.to) },
    verdict: verdict.verdict,
    rule: { egress: egress.rule, ingress: ingress.rule },
    decidedBy: verdict.decidedBy,
    ...(audited === null ? {} : { audited }),
  };
}

// The tables that the kernel programs are measured with: those of one node at the load of the bars, as steps.
import type { Interval, Step } from '#compile/plan.ts';
import type { Address } from '#net/address.ts';
import { axisRange, WHOLE_AXIS } from '#net/axis.ts';
import { parseCidr } from '#net/cidr.ts';
import { TCP } from '#net/protocol.ts';
import { podKey } from '#policy/world.ts';

/** 100.64.0.0 and on: bench/bpf.bpf.c draws them. */
const FIRST_PEER = 0x6440_0000;
const PEERS = 100_000;
const IDENTITIES = 1000;
const FIRST_IDENTITY = 100;
/** Each with a table for each identity: half a million classes. The measured pod's set has one of these layers. */
const LAYERS = 500;
const RULES_EACH = 10;
const BASE_TABLE = 1;
const FIRST_TABLE = 2;
const SET = 2;

/** A node whose one pod may speak to a hundred thousand peers at `port`, by ten rules for each of a thousand identities. */
export function benchTables(node: string, pod: Address, port: number): Step[] {
  return [
    ...worldSteps(),
    { kind: 'table', table: BASE_TABLE, value: [{ ...WHOLE_AXIS, action: 'deny', rule: 1_000_000, order: 1_000_000 }] },
    ...identityNumbers().map((index): Step => {
      return { kind: 'table', table: FIRST_TABLE + index, value: portTable(index, port) };
    }),
    ...Array.from({ length: LAYERS }, (_, layer) => layerSteps(layer)).flat(),
    { kind: 'set', set: SET, value: { layers: [LAYERS / 2] } },
    ...Array.from({ length: PEERS }, (_, peer): Step => {
      const address: Address = { family: 4, words: [FIRST_PEER + peer] };
      return { kind: 'address', address, value: FIRST_IDENTITY + (peer % IDENTITIES) };
    }),
    {
      kind: 'endpoint',
      address: pod,
      value: { address: pod, pod: podKey('bench', 'pod'), node, egress: SET, ingress: SET },
    },
  ];
}

function identityNumbers(): readonly number[] {
  return Array.from({ length: IDENTITIES }, (_, index) => index);
}

function worldSteps(): Step[] {
  const numbers = [1, ...identityNumbers().map((index) => FIRST_IDENTITY + index)];
  const prefixes = ['0.0.0.0/0', '::/0'].flatMap((text) => parseCidr(text)?.cidr ?? []);
  return [
    ...numbers.map((identity): Step => ({ kind: 'identity', identity, value: { unknown: false } })),
    ...prefixes.map((cidr): Step => ({ kind: 'prefix', cidr, value: 1 })),
  ];
}

function layerSteps(layer: number): Step[] {
  return [
    { kind: 'layer', layer, value: { base: BASE_TABLE } },
    ...identityNumbers().map((index): Step => {
      return { kind: 'class', layer, identity: FIRST_IDENTITY + index, value: FIRST_TABLE + index };
    }),
  ];
}

/** Ten ports, of which the measured one is another one for each identity. */
function portTable(index: number, measured: number): readonly Interval[] {
  return Array.from({ length: RULES_EACH }, (_, place) => {
    const port = measured + 5 * (place - (index % RULES_EACH));
    const rule = index * RULES_EACH + place;
    return { ...axisRange(TCP, port, port), action: 'allow', rule, order: rule };
  });
}

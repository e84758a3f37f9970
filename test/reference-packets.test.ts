// Packets through the reference datapath give the verdicts, legs and rules of evaluate(); and the Kubernetes e2e cells.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Compiler } from '#compile/compiler.ts';
import type { Judged, TestPacket } from '#datapath/conformance/harness.ts';
import { ReferenceDatapath } from '#datapath/reference/reference.ts';
import { formatAddress } from '#net/address.ts';
import { hasPorts } from '#net/protocol.ts';
import { evaluate } from '#policy/evaluate.ts';
import type { Flow, FlowVerdict } from '#policy/verdict.ts';
import { STANDARD_SEMANTICS, type World } from '#policy/world.ts';
import {
  arbitraryFlow,
  arbitraryHistory,
  arbitraryWorld,
  worldEvents,
  worldOf,
} from '#test/support/arbitrary-world.ts';
import { readE2eSteps } from '#test/support/e2e-cases.ts';
import { linksOf, ruleId, sayable, sendFirst } from '#test/support/flow-frames.ts';
import { CASES, needsCases } from '#test/support/needs.ts';
import { holds } from '#test/support/property.ts';

const FLOWS = 30;
const flows = fc.array(arbitraryFlow.map(sayable), { minLength: FLOWS, maxLength: FLOWS });

/** The datapath of a node on which every pod lives. */
class WholeNode {
  readonly compiler: Compiler = new Compiler({ semantics: STANDARD_SEMANTICS, isLocal: () => true });
  readonly datapath: ReferenceDatapath = new ReferenceDatapath();
  readonly #portless = new Set<string>();
  #attached = 0;

  apply(events: Parameters<Compiler['apply']>[0]): void {
    const steps = this.compiler.apply(events);
    for (let index = 1; index <= this.#attached; index++) this.datapath.detach(index);
    const links = linksOf(this.compiler.plan);
    for (const link of links) this.datapath.attach(link);
    this.#attached = links.length;
    this.datapath.apply(steps);
  }

  /** False where the flow has no ports to tell it from one that was sent before, or from the replies to it. */
  isFirst(flow: Flow): boolean {
    if (flow.port !== 0 || hasPorts(flow.protocol)) return true;
    const ends = [formatAddress(flow.from), formatAddress(flow.to)].sort();
    const key = `${flow.protocol} ${ends.join(' ')}`;
    const first = !this.#portless.has(key);
    this.#portless.add(key);
    return first;
  }

  /** What the last hook said that the flow's first packet met; a port that was used before has a connection. */
  send(flow: Flow, sport: number): Judged | null {
    const inject = (packet: TestPacket): Judged => this.datapath.inject({ ...packet, nowNs: 1n });
    return sendFirst(flow, { links: linksOf(this.compiler.plan), inject }, sport).at(-1) ?? null;
  }
}

/** What the packet's fate says, in the words of evaluate(). */
function expected(verdict: FlowVerdict): object {
  const { decidedBy, egress, ingress } = verdict;
  const reason = decidedBy !== null && verdict[decidedBy].reason === 'peer-unknown' ? 'peer-unknown' : 'policy';
  return {
    verdict: decidedBy === null ? 'pass' : 'drop',
    reason: decidedBy === null ? 'none' : reason,
    leg: decidedBy,
    rules: [egress.rule, ingress.rule],
  };
}

function check(node: WholeNode, world: World, flow: Flow, sport: number): void {
  if (!node.isFirst(flow)) return;
  const judged = node.send(flow, sport);
  const wanted = evaluate(world, flow, STANDARD_SEMANTICS);
  if (judged === null) {
    assert.equal(wanted.verdict, 'allow', 'no pod of ours is at either end');
    return;
  }
  const { verdict, reason, leg } = judged;
  const rules = [judged.egressRule, judged.ingressRule].map((rule) => ruleId(node.compiler.plan, rule));
  assert.deepEqual({ verdict, reason, leg, rules }, expected(wanted));
}

for (const kind of ['network', 'tiered'] as const) {
  test(`first packets on a Plan of ${kind} policies fare as evaluate() says, leg and rule`, (context) => {
    const property = fc.property(arbitraryWorld(kind), flows, (world, sampled) => {
      const node = new WholeNode();
      node.apply(worldEvents(world));
      for (const [index, flow] of sampled.entries()) check(node, world, flow, 1000 + index);
    });
    holds(context, property, 300);
  });
}

test('after any history of changes, new flows fare as evaluate() says of the world that is left', (context) => {
  const property = fc.property(arbitraryHistory('tiered'), flows, (history, sampled) => {
    const node = new WholeNode();
    for (const [index, events] of history.entries()) {
      node.apply(events);
      const world = worldOf(history.slice(0, index + 1).flat());
      for (const [number, flow] of sampled.entries()) check(node, world, flow, 1000 + index * FLOWS + number);
    }
  });
  holds(context, property, 60);
});

test(
  'the reference datapath agrees, by packets, with all 4 680 cells of the Kubernetes e2e cases (needs the outside cases)',
  needsCases,
  () => {
    let cells = 0;
    const wrong: string[] = [];
    for (const step of readE2eSteps(CASES)) {
      const node = new WholeNode();
      node.apply(worldEvents(step.world));
      for (const cell of step.cells) {
        const flow = { from: cell.fromAddress, to: cell.toAddress, protocol: step.protocol, port: step.port };
        const judged = node.send(flow, 1000 + cells++);
        if ((judged?.verdict === 'pass') !== cell.allowed) wrong.push(`${step.name}: ${cell.from} to ${cell.to}`);
      }
    }
    assert.deepEqual(wrong, []);
    assert.equal(cells, 4680);
  },
);

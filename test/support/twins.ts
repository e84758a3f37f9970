// Two datapaths that are told the same: the reference, and the kernel programs by BPF_PROG_TEST_RUN.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { Compiler } from '#compile/compiler.ts';
import type { Harness, Judged, TestPacket } from '#datapath/conformance/harness.ts';
import type { EndpointLink } from '#datapath/port.ts';
import { referenceHarness } from '#datapath/reference/harness.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { STANDARD_SEMANTICS, type WorldEvent } from '#policy/world.ts';
import { arbitraryFrame, type FrameSpec, frameOf } from './arbitrary-frame.ts';
import { ADDRESSES, arbitraryHistory } from './arbitrary-world.ts';
import { linkOf, linksOf } from './flow-frames.ts';
import type { TestRunBed } from './test-run-bed.ts';

const NODE = 'n1';
const FAR_MAC = Uint8Array.of(2, 0, 0, 2, 0, 1);
/** Packets that are sent again. */
const AGAIN = 30;

/** Most pods are this node's: packets need somebody to meet. */
function here(event: WorldEvent): WorldEvent {
  if (event.kind !== 'pod' || event.value === null || event.value.node === 'n2') return event;
  return { ...event, value: { ...event.value, node: NODE } };
}

/** Two datapaths that are told the same. */
class Twins {
  readonly harnesses: { readonly reference: Harness; readonly ebpf: Harness };
  readonly #compiler = new Compiler({ semantics: STANDARD_SEMANTICS, isLocal: (pod) => pod.node === NODE });
  readonly #interfaces: number[] = [];
  #links: readonly EndpointLink[] = [];

  constructor(bed: TestRunBed) {
    this.harnesses = {
      reference: referenceHarness({ establishedLimit: null, unassuredLimit: null }),
      ebpf: bed.harness({ establishedLimit: null, unassuredLimit: null }),
    };
  }

  change(events: readonly WorldEvent[]): void {
    const steps = this.#compiler.apply(events.map(here));
    const links = linksOf(this.#compiler.plan).map((link, index) => ({
      ...link,
      interfaceIndex: this.#interface(index),
    }));
    for (const { datapath } of Object.values(this.harnesses)) {
      for (const link of this.#links) if (!holdsLink(links, link)) datapath.detach(link.interfaceIndex);
      for (const link of links) if (!holdsLink(this.#links, link)) datapath.attach(link);
      datapath.apply(steps);
    }
    this.#links = links;
  }

  /** The packet of a spec in this world; null where no pod is here to meet it. */
  packet(spec: FrameSpec): TestPacket | null {
    const own = this.#links.flatMap((link) => link.addresses);
    const from = pick([...own, ...own, ...ADDRESSES], spec.from);
    const to = pick(
      [...own, ...own, ...ADDRESSES].filter(({ family }) => family === from.family),
      spec.to,
    );
    const source = linkOf(this.#links, formatAddress(from));
    const destination = linkOf(this.#links, formatAddress(to));
    const usual =
      source !== null ? { link: source, hook: 'from-pod' as const } : { link: destination, hook: 'to-pod' as const };
    const { link, hook } =
      spec.place === 'own'
        ? usual
        : { link: this.#links[spec.place.interfaces % this.#links.length], hook: spec.place.hook };
    if (link === undefined || link === null) return null;
    const frame = frameOf(spec, { from, to }, hook === 'from-pod' ? link.mac : FAR_MAC);
    const senders = { stack: 'own-node', afar: 'elsewhere', source: source?.interfaceIndex ?? 'elsewhere' } as const;
    return { interfaceIndex: link.interfaceIndex, hook, sender: senders[spec.sender], frame };
  }

  close(): void {
    for (const harness of Object.values(this.harnesses)) harness.close();
  }

  #interface(index: number): number {
    while (this.#interfaces.length <= index) this.#interfaces.push(this.harnesses.ebpf.addInterface());
    return this.#interfaces[index] ?? 0;
  }
}

function holdsLink(links: readonly EndpointLink[], link: EndpointLink): boolean {
  return links.some((other) => JSON.stringify(other) === JSON.stringify(link));
}

function pick(from: readonly Address[], number: number): Address {
  const picked = from[number % from.length];
  assert.ok(picked);
  return picked;
}

/** What both must agree on: of passes the verdict alone, as the kernel reports rules of new connections only. */
function said({ verdict, reason, leg, egressRule, ingressRule, audited }: Judged): object {
  if (verdict === 'drop') return { verdict, reason, leg, egressRule, ingressRule };
  return audited === null ? { verdict } : { verdict, audited, egressRule, ingressRule };
}

/** A history of changes, and the frames to be sent after each. */
export type Played = {
  readonly history: readonly (readonly WorldEvent[])[];
  readonly sent: readonly (readonly FrameSpec[])[];
};

/** Forty frames after each change: as many batches as a history has changes at most. */
export const arbitraryPlayed: fc.Arbitrary<Played> = fc.record({
  history: arbitraryHistory('tiered'),
  sent: fc.array(fc.array(arbitraryFrame, { minLength: 40, maxLength: 40 }), { minLength: 8, maxLength: 8 }),
});

/** Plays a history on both; counts outcomes into `seen`. Throws where they differ. */
export function play(bed: TestRunBed, { history, sent }: Played, seen: Map<string, number>): void {
  const twins = new Twins(bed);
  // What passed is sent again after each change: a connection that is cut shows at its next packets.
  const passed: TestPacket[] = [];
  try {
    for (const [index, events] of history.entries()) {
      twins.change(events);
      for (const packet of [...passed, ...passed]) compare(twins, packet, seen);
      const packets = (sent[index] ?? []).flatMap((spec) => twins.packet(spec) ?? []);
      for (const packet of packets) if (compare(twins, packet, seen) === 'pass') passed.push(packet);
      passed.splice(0, passed.length - AGAIN);
    }
  } finally {
    twins.close();
  }
}

/** Sends a packet to both, which must agree; counts the outcome. */
function compare(twins: Twins, packet: TestPacket, seen: Map<string, number>): Judged['verdict'] | 'refused' {
  const ebpf = twins.harnesses.ebpf.inject(packet);
  if (ebpf === 'refused') return 'refused';
  const reference = twins.harnesses.reference.inject(packet);
  assert.ok(reference !== 'refused');
  const { interfaceIndex, hook, sender, frame } = packet;
  const where = `${hook} ${interfaceIndex}, sent by ${sender}`;
  assert.deepEqual(said(ebpf), said(reference), `${where} ${Buffer.from(frame).toString('hex')}`);
  const outcome = reference.audited === null ? reference.reason : `audited: ${reference.audited.reason}`;
  seen.set(outcome, (seen.get(outcome) ?? 0) + 1);
  return reference.verdict;
}

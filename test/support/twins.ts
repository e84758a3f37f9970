// Two datapaths that are told the same: the reference, and the kernel programs by BPF_PROG_TEST_RUN.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { Compiler } from '#compile/compiler.ts';
import { type ServiceKey, type Step, serviceKey } from '#compile/plan.ts';
import type { Harness, Judged, Met, TestPacket } from '#datapath/conformance/harness.ts';
import type { EndpointLink } from '#datapath/port.ts';
import { referenceHarness } from '#datapath/reference/harness.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { STANDARD_SEMANTICS, type WorldEvent } from '#policy/world.ts';
import { dressed, frameOf } from './arbitrary-frame.ts';
import {
  arbitrarySent,
  arbitraryServiceSpec,
  begunTalk,
  ofFlow,
  SERVICE_ADDRESSES,
  type Sent,
  type ServedFlow,
  type ServiceSpec,
  servedFlow,
  serviceStep,
} from './arbitrary-service.ts';
import { arbitraryMove, type ClockMove, isAmbiguous } from './arbitrary-time.ts';
import { ADDRESSES, arbitraryHistory } from './arbitrary-world.ts';
import { linkOf, linksOf } from './flow-frames.ts';
import type { TestRunBed } from './test-run-bed.ts';

const NODE = 'n1';
const FAR_MAC = Uint8Array.of(2, 0, 0, 2, 0, 1);
/** Packets that are sent after each change, beside those that are sent again. */
const SENT = 60;
/** Packets that are sent again. */
const AGAIN = 30;
/** TCP connections of which more segments are sent. */
const TALKS = 2;
/** Flows to Services of which more packets are sent. */
const FLOWS = 12;

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
  /** Flows that went to backends, the newest first. */
  readonly #flows: ServedFlow[] = [];
  /** TCP connections that began, the newest first. */
  readonly #talks: ServedFlow[] = [];
  readonly #served = new Set<ServiceKey>();
  /** Seconds that the clocks were moved by, at each packet. */
  readonly #instants = new Set([0]);
  #moved = 0;
  #lastMs = performance.now();

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

  serve(specs: readonly ServiceSpec[]): void {
    const own = this.#links.flatMap((link) => link.addresses);
    // As the book of Services tells it: one step for each, and none for a Service that goes and never was.
    const steps = new Map<ServiceKey, Extract<Step, { kind: 'service' }>>();
    for (const spec of specs) {
      const step = serviceStep(spec, [...own, ...own, ...ADDRESSES]);
      const key = serviceKey(step.at);
      if (step.value === null && !this.#served.has(key)) steps.delete(key);
      else steps.set(key, step);
    }
    for (const [key, { value }] of steps)
      if (value === null) this.#served.delete(key);
      else this.#served.add(key);
    for (const { datapath } of Object.values(this.harnesses)) datapath.apply([...steps.values()]);
  }

  /** Moves both clocks, never onto a time-out itself, where a millisecond would decide. */
  move({ seconds, sweeps }: ClockMove): void {
    let to = this.#moved + seconds;
    while (seconds > 0 && [...this.#instants].some((instant) => isAmbiguous(to - instant))) to++;
    for (const harness of Object.values(this.harnesses)) {
      const move = sweeps ? harness.advance : harness.moveClock;
      move?.(to - this.#moved);
    }
    this.#moved = to;
  }

  /** The kernel's clock goes by itself, and the reference's with it. */
  tick(): void {
    const nowMs = performance.now();
    this.harnesses.reference.moveClock?.((nowMs - this.#lastMs) / 1000);
    this.#lastMs = nowMs;
    this.#instants.add(this.#moved);
  }

  /** More packets of the flow may come. */
  note(flow: ServedFlow): void {
    this.#flows.unshift(flow);
    this.#flows.splice(FLOWS);
  }

  noteTalk(talk: ServedFlow): void {
    this.#talks.unshift(talk);
    this.#talks.splice(TALKS);
  }

  /** The packet of a spec in this world; null where no pod is here to meet it. */
  packet(sent: Sent): TestPacket | null {
    const { frame: spec } = sent;
    const { from, to, build } = this.#built(sent);
    const source = linkOf(this.#links, formatAddress(from));
    const destination = linkOf(this.#links, formatAddress(to));
    const usual =
      source !== null ? { link: source, hook: 'from-pod' as const } : { link: destination, hook: 'to-pod' as const };
    const { link, hook } =
      spec.place === 'own'
        ? usual
        : { link: this.#links[spec.place.interfaces % this.#links.length], hook: spec.place.hook };
    if (link === undefined || link === null) return null;
    const frame = build(hook === 'from-pod' ? link.mac : FAR_MAC);
    const senders = { stack: 'own-node', afar: 'elsewhere', source: source?.interfaceIndex ?? 'elsewhere' } as const;
    return { interfaceIndex: link.interfaceIndex, hook, sender: senders[spec.sender], frame };
  }

  /** Its ends, and the frame by the MAC that it is sent from. */
  #built({ frame: spec, toward }: Sent): {
    readonly from: Address;
    readonly to: Address;
    readonly build: (mac: Uint8Array) => Uint8Array;
  } {
    const own = this.#links.flatMap((link) => link.addresses);
    const from = pick([...own, ...own, ...ADDRESSES], spec.from);
    const known = toward?.kind === 'talk' ? this.#talks : this.#flows;
    const flow = known[(toward?.index ?? 0) % known.length];
    if (flow !== undefined && (toward?.kind === 'flow' || toward?.kind === 'talk')) {
      const { frame, ...ends } = ofFlow(flow, { error: null, ...toward }, spec, from);
      return { ...ends, build: (mac) => dressed(spec, frame, mac) };
    }
    const sameFamily = ({ family }: Address): boolean => family === from.family;
    if (toward?.kind === 'service') {
      const to = pick(SERVICE_ADDRESSES.filter(sameFamily), toward.index);
      return { from, to, build: (mac) => frameOf({ ...spec, dport: toward.port }, { from, to }, mac) };
    }
    const to = pick([...own, ...own, ...ADDRESSES].filter(sameFamily), spec.to);
    return { from, to, build: (mac) => frameOf(spec, { from, to }, mac) };
  }

  /** What the reference says of a packet where it is by now: what enters a pod at its sender's hook met the pod's, too. */
  arriving({ hook, interfaceIndex }: TestPacket, ebpf: Met, reference: Met): Met {
    if (hook === 'to-pod' || !ebpf.entered || reference.entered) return reference;
    const link = this.#links.find(({ addresses }) => addresses.some((own) => isTo(reference.frame, own)));
    // By the wire.
    if (link === undefined) return reference;
    const { frame } = reference;
    const met = this.harnesses.reference.inject({
      interfaceIndex: link.interfaceIndex,
      hook: 'to-pod',
      sender: interfaceIndex,
      frame,
    });
    assert.ok(met !== 'refused');
    assert.equal(met.verdict, 'pass');
    return met;
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

/** The packet as it goes on, in hex: without MACs and hop limit, which are lowered and changed where it is delivered at once. */
function goesOn({ frame }: Met): string {
  const packet = Buffer.from(frame.subarray(14));
  if (frame[12] === 0x86) packet[7] = 0;
  else if (frame[12] === 0x08 && frame[13] === 0) packet.fill(0, 8, 9).fill(0, 10, 12);
  return packet.toString('hex');
}

/** Whether the frame is for the address. */
function isTo(frame: Uint8Array, { words }: Address): boolean {
  const at = words.length === 1 ? 30 : 38;
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  return at + 4 * words.length <= frame.length && words.every((word, index) => view.getUint32(at + 4 * index) === word);
}

/** What its sender is told instead, without MACs. */
function answerOf({ answer }: Met): string | null {
  return answer === null ? null : Buffer.from(answer.subarray(14)).toString('hex');
}

/** A history of changes, the frames to be sent after each, and what moves the clock among these. */
export type Played = {
  readonly history: readonly (readonly WorldEvent[])[];
  readonly services: readonly (readonly ServiceSpec[])[];
  readonly moves: readonly (readonly ClockMove[])[];
  readonly sent: readonly (readonly Sent[])[];
};

/** As many batches as a history has changes at most. */
export const arbitraryPlayed: fc.Arbitrary<Played> = fc.record({
  history: arbitraryHistory('tiered'),
  services: fc.array(fc.array(arbitraryServiceSpec, { minLength: 2, maxLength: 8 }), { minLength: 8, maxLength: 8 }),
  moves: fc.array(fc.array(arbitraryMove(2 * AGAIN + SENT), { maxLength: 3 }), { minLength: 8, maxLength: 8 }),
  sent: fc.array(fc.array(arbitrarySent, { minLength: SENT, maxLength: SENT }), { minLength: 8, maxLength: 8 }),
});

/** Plays a history on both; counts outcomes into `seen`. Returns how many packets both met. Throws where they differ. */
export function play(bed: TestRunBed, { history, services, moves, sent }: Played, seen: Map<string, number>): number {
  const twins = new Twins(bed);
  let packets = 0;
  // What passed is sent again after each change: a connection that is cut shows at its next packets.
  const passed: TestPacket[] = [];
  try {
    for (const [index, events] of history.entries()) {
      twins.change(events);
      twins.serve(services[index] ?? []);
      let met = 0;
      const send = (packet: TestPacket): boolean => {
        for (const move of moves[index] ?? []) if (move.before === met) twins.move(move);
        met++;
        const verdict = compare(twins, packet, seen);
        if (verdict !== 'refused') packets++;
        return verdict === 'pass';
      };
      for (const packet of [...passed, ...passed]) send(packet);
      for (const spec of sent[index] ?? []) {
        const packet = twins.packet(spec);
        if (packet !== null && send(packet)) passed.push(packet);
      }
      passed.splice(0, passed.length - AGAIN);
    }
    return packets;
  } finally {
    twins.close();
  }
}

/** Sends a packet to both, which must agree; counts the outcome. */
function compare(twins: Twins, packet: TestPacket, seen: Map<string, number>): Judged['verdict'] | 'refused' {
  twins.tick();
  const ebpf = twins.harnesses.ebpf.inject(packet);
  if (ebpf === 'refused') return 'refused';
  const reference = twins.harnesses.reference.inject(packet);
  assert.ok(reference !== 'refused');
  const { interfaceIndex, hook, sender, frame } = packet;
  const where = `${hook} ${interfaceIndex}, sent by ${sender}`;
  const what = `${where} ${Buffer.from(frame).toString('hex')}`;
  assert.deepEqual(said(ebpf), said(reference), what);
  if (reference.verdict === 'pass') assert.equal(goesOn(ebpf), goesOn(twins.arriving(packet, ebpf, reference)), what);
  else assert.equal(answerOf(ebpf), answerOf(reference), what);
  const flow = reference.verdict === 'pass' ? servedFlow(packet, reference.frame) : null;
  if (flow !== null) {
    twins.note(flow);
    seen.set('served', (seen.get('served') ?? 0) + 1);
  } else if (reference.verdict === 'pass' && goesOn({ ...reference, frame }) !== goesOn(reference)) {
    seen.set('translated back', (seen.get('translated back') ?? 0) + 1);
  }
  if (reference.entered) seen.set('turned', (seen.get('turned') ?? 0) + 1);
  const talk = reference.verdict === 'pass' ? begunTalk(frame, reference.frame) : null;
  if (talk !== null) twins.noteTalk(talk);
  const outcome = reference.audited === null ? reference.reason : `audited: ${reference.audited.reason}`;
  seen.set(outcome, (seen.get(outcome) ?? 0) + 1);
  return reference.verdict;
}

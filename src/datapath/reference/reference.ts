// The reference datapath: judges frames as the kernel programs do, in plain code, with an injected clock.
import { applyStep, emptyPlan } from '#compile/apply.ts';
import { type Backend, type Plan, type Step, serviceKey } from '#compile/plan.ts';
import type { Datapath, DatapathEvent, EndpointLink } from '#datapath/port.ts';
import { type Address, formatAddress, HAIRPIN, isGroup, isHairpin, isNowhere } from '#net/address.ts';
import { SCTP, TCP, UDP } from '#net/protocol.ts';
import { admitFromPod, admitToPod, type Place } from './admission.ts';
import { travelOf } from './conntrack.ts';
import { type FlowOptions, Flows } from './flows.ts';
import { FragmentMap } from './fragments.ts';
import { Epochs } from './legs.ts';
import { Links } from './links.ts';
import { ICMP_ONE_WAY, type ParsedFrame, type Tuple } from './packet.ts';
import { parseFrame } from './parse.ts';
import {
  dropped,
  type From,
  type Injection,
  isIcmp,
  isOpening,
  laterPassage,
  type Outcome,
  PASS,
  type Passage,
  passageOf,
} from './passage.ts';
import { refusalOf } from './refusal.ts';
import { withEnd, withQuotedEnd } from './rewrite.ts';
import { canTurn, isToItself, type Sent, Services, toBackend } from './services.ts';
import { isOwnNode } from './verdict.ts';

const DEFAULTS: FlowOptions = { limits: { assured: 131_072, unassured: 131_072 }, beforeStore: () => {} };
const REDIRECT = 5;
const NOWHERE: Tuple = {
  source: { family: 4, words: [0] },
  destination: { family: 4, words: [0] },
  protocol: 0,
  sourcePort: 0,
  destinationPort: 0,
  policyPort: 0,
};

type IpFrame = Extract<ParsedFrame, { kind: 'ip' }>;

export class ReferenceDatapath implements Datapath {
  readonly #plan = emptyPlan();
  readonly #epochs = new Epochs();
  readonly #links = new Links();
  readonly #fragments = new FragmentMap();
  readonly #flows: Flows;
  readonly #services: Services;
  #events: DatapathEvent[] = [];

  constructor(options: Partial<FlowOptions> = {}) {
    this.#flows = new Flows(this.#plan, this.#epochs, { ...DEFAULTS, ...options });
    this.#services = new Services(this.#plan, this.#flows);
  }

  /** The Plan as the steps so far have made it. */
  get plan(): Plan {
    return this.#plan;
  }

  apply(steps: readonly Step[]): void {
    for (const step of steps) {
      if (step.kind === 'endpoint') this.#noteEndpoint(step);
      if (step.kind === 'service') this.#noteService(step);
      applyStep(this.#plan, step);
      if (step.kind === 'epoch') this.#epochs.bump(step);
    }
  }

  attach(link: EndpointLink): void {
    for (const address of this.#links.attach(link)) this.#epochs.replaced(address);
  }

  detach(interfaceIndex: number): void {
    this.#links.detach(interfaceIndex);
  }

  poll(): { readonly events: readonly DatapathEvent[]; readonly lost: number } {
    const events = this.#events;
    this.#events = [];
    return { events, lost: 0 };
  }

  /** Nothing to give back: what it knows goes with it. */
  close(): void {
    this.#events = [];
  }

  /** Judges one frame: interface → parse → admission → self → ICMP error → fragment map → conntrack → policy. */
  inject(injection: Injection): Outcome {
    const frame = parseFrame(injection.frame);
    const tuple = (frame.kind === 'ip' ? frame.transport.tuple : frame.kind === 'drop' ? frame.tuple : null) ?? NOWHERE;
    const outcome = this.#judgeFrame(injection, frame);
    const { verdict, audited } = outcome;
    const isTold = verdict === 'pass' && audited !== null && this.#countsHere(injection, tuple);
    if (verdict === 'drop') this.#report('drop', injection, { tuple, outcome });
    else if (isTold) this.#report('audit', injection, { tuple, outcome: { ...outcome, ...audited } });
    return isTold ? outcome : { ...outcome, audited: null };
  }

  /** A packet between two pods of this node meets both hooks: it is told at its sender's. */
  #countsHere({ hook }: Injection, { source }: Tuple): boolean {
    return hook === 'from-pod' || !this.#plan.endpoints.has(formatAddress(source));
  }

  #judgeFrame(injection: Injection, frame: ParsedFrame): Outcome {
    const link = this.#links.get(injection.interfaceIndex);
    const addresses = this.#links.addressesOf(injection.interfaceIndex);
    const admitted = addresses.filter((address) => this.#plan.endpoints.has(formatAddress(address)));
    if (link === null || admitted.length === 0) return dropped('no-endpoint');
    if (frame.kind === 'drop') return dropped(frame.reason);
    const place: Place = { ...link, addresses, admitted, isHere: (address) => this.#isHere(address) };
    const admission = injection.hook === 'from-pod' ? admitFromPod(place, frame) : admitToPod(place, frame);
    if (admission.kind === 'drop') return dropped(admission.reason);
    if (admission.kind === 'judged' && frame.kind === 'ip' && this.#isStolen(injection, frame)) {
      return dropped('spoofed-source');
    }
    return admission.kind === 'passes' || frame.kind !== 'ip' ? PASS : this.#judgeIp(injection, frame);
  }

  #judgeIp(injection: Injection, frame: IpFrame): Outcome {
    const { tuple } = frame.transport;
    if (this.#isClosed(tuple.source) || this.#isClosed(tuple.destination)) return dropped('no-endpoint');
    const source = this.#plan.endpoints.get(formatAddress(tuple.source));
    const destination = this.#plan.endpoints.get(formatAddress(tuple.destination));
    if (source !== undefined && source.pod === destination?.pod) return PASS;
    const fromStack = injection.hook === 'to-pod' && injection.sender === 'own-node';
    const ownNode = fromStack && destination !== undefined && isOwnNode(this.#plan, destination, tuple.source);
    const mayTurn = frame.fragment === null && frame.hopLimit > 1;
    const from: From = { hook: injection.hook, ownNode, mayTurn, nowNs: injection.nowNs };
    if (injection.hook === 'from-pod' && isHairpin(tuple.destination)) return this.#judgeTurned(injection, frame, from);
    if (frame.transport.kind === 'icmp-error') return this.#judgeError(injection, frame, from);
    return this.#judgeFlow(injection, frame, from);
  }

  #judgeFlow(injection: Injection, frame: IpFrame, from: From): Outcome {
    const { transport, fragment } = frame;
    if (fragment !== null && transport.kind === 'later-fragment') {
      const known = this.#fragments.find(fragment, transport.tuple, from.nowNs);
      if (known !== null) return this.#judgePassage(injection, laterPassage(known, from));
      return from.ownNode ? PASS : this.#flows.judgePortless(transport.tuple);
    }
    const outcome = this.#judgePassage(injection, passageOf(transport, from));
    // Only a first fragment that passed speaks for the rest of its datagram.
    if (outcome.verdict === 'pass' && fragment !== null) this.#fragments.store(fragment, transport.tuple, from.nowNs);
    return outcome;
  }

  #judgePassage(injection: Injection, passage: Passage): Outcome {
    const { tuple } = passage;
    const sent = this.#mayTranslate(passage) ? this.#sentOn(passage) : null;
    if (sent?.kind === 'drop') {
      const answer = sent.reason === 'no-backend' ? refusalOf(injection.frame, passage) : null;
      return { ...dropped(sent.reason), answer };
    }
    if (sent?.kind !== 'to') return this.#judgeOnwards(injection, passage);
    const meant = { address: tuple.destination, port: tuple.destinationPort };
    const onwards = { ...passage, tuple: toBackend(tuple, sent.backend), meant };
    if (this.#isClosed(onwards.tuple.destination)) return dropped('no-endpoint');
    const outcome = this.#judgeOnwards(injection, onwards);
    if (outcome.verdict === 'drop') return outcome;
    this.#services.note(tuple, sent);
    const sentOn = withEnd(injection.frame, 'destination', sent.backend);
    if (!isToItself(onwards.tuple)) return { ...outcome, frame: sentOn };
    const elsewhere = { address: HAIRPIN[tuple.source.family], port: tuple.sourcePort };
    return { ...outcome, frame: withEnd(sentOn, 'source', elsewhere), turned: true };
  }

  /** To the address that the pod's own packets came from: nothing but the answers to them. */
  #judgeTurned(injection: Injection, { transport }: IpFrame, from: From): Outcome {
    const passage = passageOf(transport, from);
    const tuple = { ...passage.tuple, destination: passage.tuple.source };
    const isFlow = [TCP, UDP, SCTP].includes(tuple.protocol) && from.mayTurn && !isOpening(passage.segment);
    if (!isFlow || !this.#flows.isTurned(tuple, from.nowNs)) return dropped('mid-flow');
    const outcome = this.#judgeOnwards(injection, { ...passage, tuple, hook: 'to-pod' });
    const frame = withEnd(outcome.frame ?? injection.frame, 'destination', {
      address: tuple.source,
      port: tuple.destinationPort,
    });
    return outcome.verdict === 'drop' ? outcome : { ...outcome, frame, turned: true };
  }

  /** To no backend that a packet itself could not go to, nor to the pod itself where that can't answer by here. */
  #sentOn(passage: Passage): Sent {
    const sent = this.#services.translate(passage);
    if (sent.kind !== 'to') return sent;
    const { address } = sent.backend;
    if (isGroup(address)) return { kind: 'drop', reason: 'multicast' };
    if (isNowhere(address)) return { kind: 'drop', reason: 'malformed' };
    const pod = this.#plan.endpoints.get(formatAddress(passage.tuple.source))?.pod;
    const isOwn = this.#plan.endpoints.get(formatAddress(address))?.pod === pod;
    const onwards = toBackend(passage.tuple, sent.backend);
    const isTurned = isToItself(onwards) && passage.mayTurn && canTurn(onwards);
    return isOwn && !isTurned ? { kind: 'drop', reason: 'no-backend' } : sent;
  }

  /** What an answer of a backend enters its client's pod as. */
  #judgeOnwards(injection: Injection, passage: Passage): Outcome {
    const { outcome, change, answers } = this.#flows.judge(passage);
    // The audit says that it began.
    const isTold = change === 'new' && outcome.audited !== null;
    if (change !== null && !isTold) this.#report(change, injection, { tuple: passage.tuple, outcome });
    const enters = outcome.verdict === 'pass' && answers !== null && passage.hook === 'to-pod';
    return enters ? { ...outcome, frame: withEnd(injection.frame, 'source', answers) } : outcome;
  }

  /** At the pod that sends, and never an address that is a pod's of this node. */
  #mayTranslate({ hook, tuple }: Passage): boolean {
    return hook === 'from-pod' && !this.#plan.endpoints.has(formatAddress(tuple.destination));
  }

  /**
   * An ICMP error passes with the live connection that it quotes, and comes to the one who sent the quoted packet.
   * A pod speaks only of packets that were sent to it.
   */
  #judgeError(injection: Injection, { transport, fragment }: IpFrame, from: From): Outcome {
    const outer = transport.tuple;
    const inner = transport.kind === 'icmp-error' ? transport.inner : null;
    // Only the first router may send somebody elsewhere, and that is this node; for IPv6 it is NDP.
    const redirects = outer.source.family === 4 && outer.policyPort >> 8 === REDIRECT;
    if (redirects && !from.ownNode) return dropped('spoofed-neighbour');
    const unrelated = dropped('icmp-unrelated');
    if (inner === null) return from.ownNode ? PASS : unrelated;
    if (formatAddress(inner.source) !== formatAddress(outer.destination)) return unrelated;
    const isForged = formatAddress(inner.destination) !== formatAddress(outer.source);
    if (from.hook === 'from-pod' && isForged) return unrelated;
    const answering = this.#answering(from, inner);
    const quoted = answering === null ? inner : reversed(toBackend(reversed(inner), answering));
    // Of what comes back to its sender, nobody tells.
    if (isToItself(quoted)) return unrelated;
    const entry = this.#flows.live(quoted, from.nowNs);
    if (entry === null) return from.ownNode ? PASS : unrelated;
    if (entry.meant === null) return PASS;
    // Its later fragments would keep the addresses that they have.
    if (fragment !== null) return unrelated;
    const { frame } = injection;
    if (answering !== null) return { ...PASS, frame: withQuotedEnd(frame, 'source', answering, true) };
    const enters = from.hook === 'to-pod' && travelOf(entry, inner) === 'request';
    const isBackends = formatAddress(inner.destination) === formatAddress(outer.source);
    return enters ? { ...PASS, frame: withQuotedEnd(frame, 'destination', entry.meant, isBackends) } : PASS;
  }

  /** Whose answer, as a Service's, a pod speaks of. */
  #answering(from: From, inner: Tuple): Backend | null {
    const asked = passageOf({ kind: 'flow', tuple: reversed(inner) }, from);
    return this.#mayTranslate(asked) ? this.#services.answering(asked.tuple, from.nowNs) : null;
  }

  /** A packet of a pod of this node comes by that pod's interface. Any other with its address is somebody else's. */
  #isStolen({ hook, sender }: Injection, frame: IpFrame): boolean {
    const owner = this.#links.ownerOf(frame.transport.tuple.source);
    return hook === 'to-pod' && owner !== null && owner !== sender;
  }

  /** An address of this node or of a pod on it. */
  #isHere(address: Address): boolean {
    const key = formatAddress(address);
    if (this.#plan.endpoints.has(key)) return true;
    return [...this.#plan.endpoints.values()].some((endpoint) => isOwnNode(this.#plan, endpoint, address));
  }

  /** A local interface's address without an endpoint record is closed, to its peers too. */
  #isClosed(address: Address): boolean {
    return this.#links.ownerOf(address) !== null && !this.#plan.endpoints.has(formatAddress(address));
  }

  #noteEndpoint(step: Extract<Step, { kind: 'endpoint' }>): void {
    const before = this.#plan.endpoints.get(formatAddress(step.address));
    if (before !== undefined && step.value !== null && before.pod !== step.value.pod)
      this.#epochs.replaced(step.address);
    this.#epochs.moved(step.address);
  }

  /** What is known of flows to an address that becomes a Service's is stale. */
  #noteService(step: Extract<Step, { kind: 'service' }>): void {
    this.#services.set(step);
    if (step.value === null || this.#plan.services.has(serviceKey(step.at))) return;
    this.#epochs.bump({ kind: 'epoch', sets: [], peers: [step.at.address] });
  }

  #report(
    kind: DatapathEvent['kind'],
    at: Injection,
    what: { readonly tuple: Tuple; readonly outcome: Outcome },
  ): void {
    const { source, destination, protocol, sourcePort, destinationPort, policyPort } = what.tuple;
    const ports = isIcmp(what.tuple)
      ? { sourcePort: icmpId(sourcePort, destinationPort), destinationPort: policyPort }
      : { sourcePort, destinationPort };
    const { reason, leg, egressRule, ingressRule } = what.outcome;
    const verdict = { reason, leg, egressRule, ingressRule };
    const flow = { source, destination, protocol, ...ports };
    this.#events.push({ kind, hook: at.hook, ...verdict, ...flow, count: 1, timeNs: at.nowNs });
  }
}

/** The tuple of what answers. */
function reversed({ source, destination, sourcePort, destinationPort, protocol }: Tuple): Tuple {
  const ports = { sourcePort: destinationPort, destinationPort: sourcePort, policyPort: sourcePort };
  return { source: destination, destination: source, protocol, ...ports };
}

/** The id of an echo; 0 for other messages. */
function icmpId(sourcePort: number, destinationPort: number): number {
  return sourcePort >= ICMP_ONE_WAY ? 0 : Math.max(sourcePort, destinationPort);
}

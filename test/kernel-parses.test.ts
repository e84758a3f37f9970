// The reference parser against one that Moat did not make: what Linux hands to its upper layers of a random frame, the
// parser has read the same way, or refused. Needs root.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { concat } from '#datapath/packets.ts';
import type { ParsedFrame } from '#datapath/reference/packet.ts';
import { parseFrame } from '#datapath/reference/parse.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { ICMP, ICMPV6, SCTP, TCP, UDP } from '#net/protocol.ts';
import { arbitraryFrame, type FrameSpec, frameOf } from './support/arbitrary-frame.ts';
import { Coverage } from './support/coverage.ts';
import { needsRoot } from './support/needs.ts';
import { samples } from './support/property.ts';
import { type Delivered, RawListeners } from './support/raw-listeners.ts';
import { OUTSIDER, type Place, WireBed } from './support/wire-bed.ts';

/** Frames of a random batch. */
const BATCH = 100;
const MTU = 1500;
const SENDER = Uint8Array.of(2, 0, 0, 0, 0, 77);
const PARSER = ['reference/ip.ts', 'reference/parse.ts', 'reference/bytes.ts'];
/** Of the parser's blocks: no wire carries a frame shorter than its header, and some may be missed by chance. */
const MISSED = 6;

/** What the parser says of a packet, in the words of a delivery; null where it has no ports or is refused. */
function saidOf(parsed: ParsedFrame): string | null {
  if (parsed.kind !== 'ip' || parsed.transport.kind === 'later-fragment') return null;
  const { tuple } = parsed.transport;
  const isIcmp = tuple.protocol === (tuple.source.family === 4 ? ICMP : ICMPV6);
  const hasPorts = [TCP, UDP, SCTP].includes(tuple.protocol);
  const ports = isIcmp ? tuple.policyPort : hasPorts ? `${tuple.sourcePort} ${tuple.destinationPort}` : '';
  return `${tuple.protocol} from ${formatAddress(tuple.source)}: ${ports}`;
}

function deliveryOf({ protocol, from, payload }: Delivered): string {
  const icmp = protocol === (from.family === 4 ? ICMP : ICMPV6);
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  if (icmp) return `${protocol} from ${formatAddress(from)}: ${payload.length < 2 ? '' : view.getUint16(0)}`;
  if (![TCP, UDP, SCTP].includes(protocol)) return `${protocol} from ${formatAddress(from)}: `;
  const ports = payload.length < 4 ? 'cut off' : `${view.getUint16(0)} ${view.getUint16(2)}`;
  return `${protocol} from ${formatAddress(from)}: ${ports}`;
}

const batches = fc.array(arbitraryFrame, { minLength: BATCH, maxLength: BATCH });

test('Linux delivers no packet that the parser reads otherwise (root)', needsRoot, (context) => {
  const net = new WireBed('parses', 2, 'taken-for-right');
  const ends = [new End(net, 0), new End(net, 1)] as const;
  const coverage = new Coverage();
  const counts = new Map<string, number>();
  const count = (what: string): void => void counts.set(what, (counts.get(what) ?? 0) + 1);
  // Of every first fragment, since the datagram is delivered with the last of its fragments.
  const firsts = new Set<string>();

  function compare(spec: FrameSpec): void {
    const addresses =
      spec.from % 2 === 1 ? { from: OUTSIDER.v6, to: ends[0].v6 } : { from: OUTSIDER.v4, to: ends[0].v4 };
    const frame = frameOf(spec, addresses, SENDER);
    if (frame.length > MTU) return;
    const parsed = parseFrame(frame);
    const said = saidOf(parsed);
    if (parsed.kind === 'ip' && parsed.fragment !== null && said !== null) firsts.add(said);
    // What is refused goes to the other one: here, too, nobody gets the rest of what has no beginning.
    const delivered = ends[parsed.kind === 'drop' ? 1 : 0].take(frame);
    if (delivered.length === 0) count(said === null ? 'refused by both' : 'read by the parser alone');
    for (const told of delivered) {
      if (parsed.kind === 'drop') count(`refused by the parser alone: ${parsed.reason}`);
      else if (told === said || firsts.has(told)) count('delivered as the parser read it');
      else assert.fail(`Linux: ${told}; the parser: ${said}; ${Buffer.from(frame).toString('hex')}`);
    }
  }

  try {
    for (const batch of samples(context, batches, 120)) for (const spec of batch) compare(spec);
    for (const [what, times] of [...counts].sort()) context.diagnostic(`${String(times).padStart(7)}  ${what}`);
    const covered = coverage.take(PARSER);
    for (const { file, blocks, missed } of covered) {
      const lines = missed.length === 0 ? '' : `; not through lines ${missed.join(', ')}`;
      context.diagnostic(`${file}: ${blocks - missed.length} of ${blocks} blocks${lines}`);
    }
    assert.equal(covered.length, PARSER.length);
    assert.ok(covered.reduce((sum, { missed }) => sum + missed.length, 0) <= MISSED);
    assert.ok((counts.get('delivered as the parser read it') ?? 0) > BATCH, 'the kernel took next to nothing');
  } finally {
    for (const end of ends) end.close();
    net.destroy();
  }
});

/** A receiver: both have the first one's addresses, so that they take the same frames. */
class End {
  readonly v4: Address;
  readonly v6: Address;
  readonly #side: Place;
  readonly #listeners: RawListeners;
  readonly #own: readonly string[];

  constructor(net: WireBed, index: number) {
    const pod = net.pod(index);
    ({ v4: this.v4, v6: this.v6 } = net.pod(0));
    this.#own = [this.v4, this.v6, pod.v4, pod.v6].map(formatAddress);
    for (const address of this.#own.slice(0, 2)) net.bed.run(pod, 'ip', 'addr', 'replace', address, 'dev', 'eth0');
    // Nobody else speaks on this link: no gateway answers.
    net.onNode('ip', 'addr', 'flush', 'dev', `h${index + 1}`);
    this.#side = net.hostSide(pod);
    this.#listeners = new RawListeners(pod.netns);
  }

  /** What its upper layers get of a frame, in the parser's words; not what it says to itself of that. */
  take(frame: Uint8Array): readonly string[] {
    this.#side.wire.send(concat(this.#side.next, frame.subarray(6)));
    const foreign = this.#listeners.received().filter(({ from }) => !this.#own.includes(formatAddress(from)));
    return foreign.map(deliveryOf);
  }

  close(): void {
    this.#side.wire.close();
    this.#listeners.close();
  }
}

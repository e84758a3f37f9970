// The kernel programs say of random frames, on random worlds that change, what the reference says: verdict, reason,
// leg and rules. Needs root.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { Compiler } from '#compile/compiler.ts';
import type { Harness, Judged, TestPacket } from '#datapath/conformance/harness.ts';
import type { EndpointLink } from '#datapath/port.ts';
import { referenceHarness } from '#datapath/reference/harness.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { STANDARD_SEMANTICS, type WorldEvent } from '#policy/world.ts';
import { arbitraryFrame, type FrameSpec, frameOf } from '#test/support/arbitrary-frame.ts';
import { ADDRESSES, arbitraryHistory } from '#test/support/arbitrary-world.ts';
import { linkOf, linksOf } from '#test/support/flow-frames.ts';
import { needsRoot } from '#test/support/needs.ts';
import { holds } from '#test/support/property.ts';
import { TestRunBed } from '#test/support/test-run-bed.ts';

const FRAMES = 40;
const NODE = 'n1';
const FAR_MAC = Uint8Array.of(2, 0, 0, 2, 0, 1);

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
      reference: referenceHarness({ establishedLimit: null }),
      ebpf: bed.harness({ establishedLimit: null }),
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
    return { interfaceIndex: link.interfaceIndex, hook, locallyGenerated: spec.byStack && hook === 'to-pod', frame };
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
function said(judged: Judged): object {
  return judged.verdict === 'pass' ? { verdict: 'pass' } : judged;
}

let bed: TestRunBed | null = null;

before(() => {
  bed = needsRoot.skip === false ? new TestRunBed('twins') : null;
});

after(() => bed?.destroy());

test('frames on changing worlds fare in the kernel as in the reference (root)', needsRoot, (context) => {
  assert.ok(bed);
  const twins = bed;
  const seen = new Map<string, number>();
  const state = fc.tuple(
    arbitraryHistory('tiered'),
    fc.array(fc.array(arbitraryFrame, { minLength: FRAMES, maxLength: FRAMES }), { minLength: 8, maxLength: 8 }),
  );
  // A world and its frames are long to try again a thousand times: what is printed is the frame that differs.
  const property = fc.property(fc.noShrink(state), ([history, frames]) => {
    const pair = new Twins(twins);
    try {
      for (const [index, events] of history.entries()) {
        pair.change(events);
        for (const spec of frames[index] ?? []) compare(pair, spec, seen);
      }
    } finally {
      pair.close();
    }
  });
  holds(context, property, 30);
  for (const [reason, count] of [...seen].sort()) context.diagnostic(`${String(count).padStart(6)}  ${reason}`);
});

function compare(pair: Twins, spec: FrameSpec, seen: Map<string, number>): void {
  const packet = pair.packet(spec);
  const ebpf = packet === null ? 'refused' : pair.harnesses.ebpf.inject(packet);
  if (packet === null || ebpf === 'refused') return;
  const reference = pair.harnesses.reference.inject(packet);
  assert.ok(reference !== 'refused');
  const { interfaceIndex, hook, locallyGenerated, frame } = packet;
  const about = `${spec.kind} ${hook} ${interfaceIndex}${locallyGenerated ? ' by stack' : ''} ${Buffer.from(frame).toString('hex')}`;
  assert.deepEqual(said(ebpf), said(reference), about);
  const key = `${spec.kind} ${reference.reason}`;
  seen.set(key, (seen.get(key) ?? 0) + 1);
}

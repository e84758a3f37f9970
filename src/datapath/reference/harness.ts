// The reference datapath as the conformance suite wants it: an injected clock, and a place to come in between.
import type { Harness, HarnessOptions } from '#datapath/conformance/harness.ts';
import { ReferenceDatapath } from './reference.ts';

const SECOND_NS = 1_000_000_000;

/** A fresh reference datapath. */
export function referenceHarness(options: HarnessOptions): Harness {
  let nowNs = 1_000_000_000_000n;
  let meanwhile: (() => void) | null = null;
  const beforeStore = (): void => {
    const once = meanwhile;
    meanwhile = null;
    once?.();
  };
  const moveClock = (seconds: number): void => {
    nowNs += BigInt(Math.round(seconds * SECOND_NS));
  };
  const limits = { assured: options.establishedLimit ?? 1000, unassured: options.unassuredLimit ?? 1000 };
  const datapath = new ReferenceDatapath({ limits, beforeStore });
  let interfaces = 0;
  return {
    datapath,
    addInterface: () => ++interfaces,
    inject: (packet) => {
      const { frame, turned, ...judged } = datapath.inject({ ...packet, nowNs });
      return { ...judged, frame: frame ?? packet.frame, entered: turned };
    },
    advance: moveClock,
    moveClock,
    interleave: (next) => {
      meanwhile = next;
    },
    close: () => datapath.close(),
  };
}

// The one suite that every datapath must pass: a factory, and a list of skips with reasons.
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { AFFINITY_CASES } from './conformance/affinity-cases.ts';
import { ATTACK_CASES } from './conformance/attack-cases.ts';
import { AUDIT_CASES } from './conformance/audit-cases.ts';
import { BACKEND_CASES } from './conformance/backend-cases.ts';
import type { Case, Need } from './conformance/case.ts';
import { CHANGE_CASES } from './conformance/change-cases.ts';
import { CLIENT_CASES } from './conformance/client-cases.ts';
import { ERROR_CASES } from './conformance/error-cases.ts';
import { FLOW_CASES } from './conformance/flow-cases.ts';
import { FRAGMENT_CASES } from './conformance/fragment-cases.ts';
import { HAIRPIN_CASES } from './conformance/hairpin-cases.ts';
import type { Factory, Harness, HarnessOptions } from './conformance/harness.ts';
import { LEFT_CASES } from './conformance/left-cases.ts';
import { PACKET_CASES } from './conformance/packet-cases.ts';
import { POLICY_CASES } from './conformance/policy-cases.ts';
import { REFUSAL_CASES } from './conformance/refusal-cases.ts';
import { IPV4, IPV6, type Names, Rig } from './conformance/rig.ts';
import { ROOM_CASES } from './conformance/room-cases.ts';
import { SERVICE_CASES } from './conformance/service-cases.ts';
import { SERVICE_ERROR_CASES } from './conformance/service-error-cases.ts';
import { SPOOF_CASES } from './conformance/spoof-cases.ts';
import { TCP_CASES } from './conformance/tcp-cases.ts';

/** A case that a datapath does not run, by its whole name, and why that is right. */
export type Skip = { readonly name: string; readonly reason: string };

export const CASES: readonly Case[] = [
  ...FLOW_CASES,
  ...TCP_CASES,
  ...POLICY_CASES,
  ...CHANGE_CASES,
  ...AUDIT_CASES,
  ...ROOM_CASES,
  ...PACKET_CASES,
  ...FRAGMENT_CASES,
  ...ERROR_CASES,
  ...SPOOF_CASES,
  ...ATTACK_CASES,
  ...SERVICE_CASES,
  ...LEFT_CASES,
  ...BACKEND_CASES,
  ...HAIRPIN_CASES,
  ...AFFINITY_CASES,
  ...CLIENT_CASES,
  ...REFUSAL_CASES,
  ...SERVICE_ERROR_CASES,
];

/** How much room a case asks for. */
export function limitsOf({ establishedLimit, unassuredLimit }: Case): HarnessOptions {
  return { establishedLimit: establishedLimit ?? null, unassuredLimit: unassuredLimit ?? null };
}

/** What a suite as a whole needs, as node:test takes it: `skip` is a reason, or false. */
export type SuiteOptions = { readonly skip: string | false };

/** Runs the suite on the datapaths that the factory makes, one for each case. */
export function conformance(
  name: string,
  factory: Factory,
  skips: readonly Skip[] = [],
  options: SuiteOptions = { skip: false },
): void {
  describe(`conformance of ${name}`, options, () => {
    for (const one of CASES) {
      for (const names of [IPV4, IPV6]) {
        if (one.family !== undefined && one.family !== names.family) continue;
        const skip = skips.find((skipped) => skipped.name === one.name);
        const title = `${one.name} (IPv${names.family})`;
        it(title, { skip: skip === undefined ? false : skip.reason }, (test) => runCase(test, factory, { one, names }));
      }
    }
    it('skips name cases of the suite', () => {
      const unknown = skips.filter((skip) => !CASES.some((one) => one.name === skip.name));
      assert.deepEqual(unknown, []);
    });
  });
}

function runCase(test: TestContext, factory: Factory, what: { readonly one: Case; readonly names: Names }): void {
  const harness = factory(limitsOf(what.one));
  try {
    const lacking = (what.one.needs ?? []).filter((need) => !offers(harness, need));
    if (lacking.length > 0) test.skip(`this datapath offers no ${lacking.join(', ')}`);
    else what.one.run(new Rig(harness), what.names);
  } finally {
    harness.close();
  }
}

function offers(harness: Harness, need: Need): boolean {
  return (need === 'clock' ? harness.advance : harness.interleave) !== null;
}

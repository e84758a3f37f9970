// Which branches of the kernel programs packets go through: of the conformance suite, and of random frames. Needs root.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { PODS } from '#datapath/conformance/rig.ts';
import { conformance } from '#datapath/conformance.ts';
import { CountedPrograms } from './support/counted-programs.ts';
import type { Branch } from './support/instrument-c.ts';
import { needsRoot } from './support/needs.ts';
import { samples } from './support/property.ts';
import { type BedOptions, TestRunBed } from './support/test-run-bed.ts';
import { arbitraryPlayed, play } from './support/twins.ts';

/** No packet goes there: the take-over of another layout's connections, which `upgrade.test.ts` has, and sockets (`host-hooks.test.ts`). */
const OF_NO_PACKET: readonly string[] = ['carry.h', 'earlier.h', 'host.bpf.c', 'sockets.h'];
/** The suite's packets ask for no Service from outside: the reference datapath has no uplink. `outside.test.ts` and `forward.test.ts` have those that do. */
const OF_UPLINKS: readonly string[] = ['forward.h', 'outside.h', 'self.h'];
/** What may be missed of the rest. Most of it are the null checks that verifiers ask for, and races with a change of tables. */
const MISSED = 0.18;

let programs: CountedPrograms | null = null;
const beds = new Map<string, TestRunBed>();

before(() => {
  if (needsRoot.skip === false) programs = new CountedPrograms();
});

after(() => {
  for (const bed of beds.values()) bed.destroy();
  programs?.remove();
});

/** The datapaths of a bed stay open, and what went through them counted. */
function bedOf(name: string, options: BedOptions): TestRunBed {
  assert.ok(programs);
  const bed = beds.get(name) ?? new TestRunBed(name, { ...options, object: programs.object });
  beds.set(name, bed);
  return bed;
}

/** The suite on pods alone, and on pods behind an uplink's hook. */
const suite = (name: string, uplink: boolean): void => {
  const options = { kept: PODS.length, uplink };
  conformance(
    `ebpf, counted${uplink ? ', behind an uplink' : ''} (root)`,
    (limits) => bedOf(name, options).harness(limits),
    [],
    needsRoot,
  );
};

suite('counted', false);
suite('counted-uplink', true);

test('packets go through most branches of the kernel programs (root)', needsRoot, async (context) => {
  assert.ok(programs);
  const ofPackets = ({ file }: Branch): boolean => ![...OF_NO_PACKET, ...OF_UPLINKS].includes(file);
  const branches = programs.branches.filter(ofPackets);
  const seen = new Map<string, number>();
  for (const played of samples(context, arbitraryPlayed, 40)) {
    play(bedOf('counted-frames', { uplink: true }), played, seen);
    await setTimeout(1);
  }
  const missed = programs.missed().filter(ofPackets);
  const within = (all: readonly Branch[], file: string): readonly Branch[] => all.filter((each) => each.file === file);
  for (const file of new Set(branches.map((branch) => branch.file))) {
    const all = within(branches, file).length;
    const lines = within(missed, file).map(({ line, kind }) => (kind === 'taken' ? `${line}` : `${line} (no else)`));
    context.diagnostic(
      `${file}: ${all - lines.length} of ${all}${lines.length === 0 ? '' : `; not ${lines.join(', ')}`}`,
    );
  }
  context.diagnostic(`${branches.length - missed.length} of ${branches.length} branches`);
  assert.ok(branches.length > 900, 'the sources are written in other C than this test reads');
  assert.ok(missed.length < branches.length * MISSED, 'packets go through fewer branches than they did');
});

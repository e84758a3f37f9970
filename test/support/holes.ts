// Holes that the datapath's rules close: for each, the test that shows it closed, and the fault that opens it again, in
// the kernel programs or in what writes their tables. `make teeth` plants each fault, and its test must fail.
import assert from 'node:assert/strict';
import type { ProgramFault } from './faulty-programs.ts';
import { CHANGES, LIVES } from './holes/changes.ts';
import type { Hole } from './holes/fault.ts';
import { FLOWS, POLICY } from './holes/flows.ts';
import { FORWARDED } from './holes/forward.ts';
import { PARSING, SOURCES } from './holes/frames.ts';
import { HAIRPIN } from './holes/hairpin.ts';
import { SERVICES } from './holes/services.ts';

export const HOLES: readonly Hole[] = [
  ...[...PARSING, ...SOURCES, ...FLOWS, ...POLICY],
  ...[...CHANGES, ...LIVES, ...SERVICES, ...HAIRPIN, ...FORWARDED],
];

/** The faults against a rule that are in bpf/, for tests that build the programs with them. */
export function faultsOf(rule: string): readonly ProgramFault[] {
  const hole = HOLES.find((each) => each.rule === rule);
  assert.ok(hole !== undefined, rule);
  return hole.faults.map((fault) => ({ ...fault, file: fault.file.replace('bpf/', '') }));
}

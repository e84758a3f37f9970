// The generated layouts are those of the built object, and the drop reasons those of the port.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { DROP_REASON } from '#datapath/ebpf/encode/abi.gen.ts';
import { DROP_REASONS } from '#datapath/port.ts';
import { generateAbi } from '../tools/gen-abi.ts';

const ROOT = join(import.meta.dirname, '..');
const OBJECT = join(ROOT, 'build/bpf/moat.bpf.o');
const HOST = join(ROOT, 'build/bpf/host.bpf.o');

describe('abi.gen.ts', () => {
  it('says what the compiler laid out', () => {
    execFileSync('sh', [join(ROOT, 'tools/build-bpf.sh')]);
    assert.ok(existsSync(OBJECT));
    const committed = readFileSync(join(ROOT, 'src/datapath/ebpf/encode/abi.gen.ts'), 'utf8');
    assert.equal(committed, generateAbi(OBJECT, HOST), 'run: node tools/gen-abi.ts');
  });

  it('has the port’s drop reasons, in the same order', () => {
    const names = Object.entries(DROP_REASON).filter(([name]) => name !== 'COUNT');
    const ordered = names.sort(([, a], [, b]) => a - b).map(([name]) => name.toLowerCase().replaceAll('_', '-'));
    assert.deepEqual(ordered, [...DROP_REASONS]);
    assert.equal(DROP_REASON.COUNT, DROP_REASONS.length);
  });
});

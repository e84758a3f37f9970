// Breaks enforcement in the kernel, beneath everything that could notice: tests that stay green then have no teeth.
import assert from 'node:assert/strict';
import { ACTION_FLAG, ARENA_RECORD, TABLE_ACTION } from '#datapath/ebpf/encode/abi.gen.ts';
import { tablesPath } from '#datapath/ebpf/generations.ts';
import { closeObject, getPinned, handleOf, lookupElement, updateBatch } from '#kernel/bpf.ts';
import type { Sandbox } from '#sandbox/sandbox.ts';

/** hooks: taken off · allow: every deny of the kernel's tables allows · rules: every deny has lost its rule number. */
export const SABOTAGES = ['hooks', 'allow', 'rules'] as const;
type Sabotage = (typeof SABOTAGES)[number];

/** Names the sabotage that test/teeth.test.ts asks of every sandbox a test makes. */
export const SABOTAGE_VARIABLE = 'MOAT_TEST_SABOTAGE';

/** Enough for the few policies of a test. */
const RECORDS = 512;

export type DenyRecord = { readonly key: Buffer; readonly record: Buffer; readonly rule: number };

/** Edits every deny of a node's tables in place, in the kernel; `edit` changes the record. */
export function editDenies(instance: string, node: string, edit: (deny: DenyRecord) => void): void {
  const arena = getPinned(`${tablesPath(instance, node)}/arena`);
  assert.ok(arena !== null);
  for (const deny of deniesOf(arena)) {
    edit(deny);
    updateBatch(handleOf(arena), deny.key, deny.record, 1);
  }
  closeObject(arena);
}

/** Rule numbers of a node's denies. */
export function denyRules(instance: string, node: string): readonly number[] {
  const arena = getPinned(`${tablesPath(instance, node)}/arena`);
  assert.ok(arena !== null);
  const rules = [...new Set(deniesOf(arena).map((deny) => deny.rule))];
  closeObject(arena);
  return rules;
}

function deniesOf(arena: number): readonly DenyRecord[] {
  const denies: DenyRecord[] = [];
  const map = handleOf(arena);
  for (let index = 0; index < RECORDS; index++) {
    const key = Buffer.alloc(4);
    key.writeUInt32LE(index);
    const record = Buffer.alloc(ARENA_RECORD.size);
    assert.ok(lookupElement(map, key, record));
    const rule = record.readUInt32LE(ARENA_RECORD.rule);
    const action = record.readUInt32LE(ARENA_RECORD.action) & ~ACTION_FLAG.OWN;
    if (rule !== 0 && action === TABLE_ACTION.DENY) denies.push({ key, record, rule });
  }
  return denies;
}

/** What the environment asks for; nothing, as a rule. */
export async function sabotageAsAsked(sandbox: Sandbox): Promise<void> {
  const asked = SABOTAGES.find((one) => one === process.env[SABOTAGE_VARIABLE]);
  if (asked !== undefined) await sabotage(sandbox, asked);
}

async function sabotage(sandbox: Sandbox, kind: Sabotage): Promise<void> {
  if (kind === 'hooks') return await sandbox.detachHooks();
  const { nodes } = await sandbox.status();
  for (const node of nodes) {
    editDenies(sandbox.name, node.name, ({ record }) => {
      if (kind === 'allow') record.writeUInt32LE(TABLE_ACTION.ALLOW, ARENA_RECORD.action);
      else record.writeUInt32LE(0, ARENA_RECORD.rule);
    });
  }
}

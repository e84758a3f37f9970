// What guests get from the compiler outside: objects, or what it complains of; one answer for each request.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { duplexPair } from 'node:stream';
import { test } from 'node:test';
import { serveCompiler } from './compiler.ts';

type Answer = { readonly code: string | undefined; readonly bytes: Buffer };

const ARGUMENTS = '-O2 -target bpf';

/** A request as guest-clang.sh makes it, from files by name. */
function request(args: string, files: Readonly<Record<string, string>>): Buffer {
  const folder = mkdtempSync(join(tmpdir(), 'moat-request-'));
  try {
    mkdirSync(join(folder, 'bpf'));
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
    const archive = execFileSync('tar', ['-cf', '-', '.'], { cwd: folder });
    return Buffer.concat([Buffer.from(`${archive.length} ${ARGUMENTS} ${args}\n`), archive]);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Sends the bytes, cut into pieces, and returns the answer once it is whole. */
async function answerTo(bytes: Buffer): Promise<Answer> {
  const [guest, outside] = duplexPair();
  serveCompiler(outside);
  for (let at = 0; at < bytes.length; at += 1000) guest.write(bytes.subarray(at, at + 1000));
  let got = Buffer.alloc(0);
  for await (const piece of guest) {
    got = Buffer.concat([got, piece]);
    const line = got.indexOf('\n');
    const [code, size] = got.toString('utf8', 0, Math.max(0, line)).split(' ');
    if (line >= 0 && got.length === line + 1 + Number(size)) return { code, bytes: got.subarray(line + 1) };
  }
  throw new Error('no answer');
}

/** ELF's number for BPF. */
const EM_BPF = 247;

function assertObject({ code, bytes }: Answer, symbol: string): void {
  assert.equal(code, '0', bytes.toString('utf8'));
  assert.equal(bytes.toString('latin1', 1, 4), 'ELF');
  assert.equal(bytes.readUInt16LE(18), EM_BPF);
  assert.ok(bytes.includes(symbol));
}

test('a guest gets the object of the sources that it sends', async () => {
  const files = {
    'bpf/name.h': '#define NAME of_a_guest\n',
    'bpf/one.c': '#include "name.h"\nint NAME(void) { return 7; }\n',
  };
  assertObject(await answerTo(request('-c bpf/one.c -o /elsewhere/one.o', files)), 'of_a_guest');
});

test('a guest gets the object of what it sends by standard input', async () => {
  const files = { stdin: 'int by_stdin(void) { return 7; }\n' };
  assertObject(await answerTo(request('-xc -c - -o one.o', files)), 'by_stdin');
});

test('a guest is told what the compiler complains of', async () => {
  const { code, bytes } = await answerTo(request('-c bpf/one.c -o one.o', { 'bpf/one.c': 'int broken(' }));
  assert.equal(code, '1');
  assert.match(bytes.toString('utf8'), /bpf\/one\.c:1:\d+: error:/);
});

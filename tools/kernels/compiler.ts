// A compiler for guests. clang is too big and, emulated, too slow to be brought into one, so the guest's `clang`
// (guest-clang.sh) sends its sources through a port of the machine, this one compiles them, and the object goes back.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';

/** `bytes`: with code 0 the object, with code 1 what the compiler complained of. */
type Compiled = { readonly code: 0 | 1; readonly bytes: Uint8Array };

/**
 * Answers each request that comes from a guest: a line "BYTES ARGUMENTS", and a tar archive of so many bytes with what is to be
 * compiled (`stdin`: what is read where the arguments say `-`). The answer is a line "CODE BYTES", and so many bytes.
 */
export function serveCompiler(port: Duplex): void {
  let waiting = Buffer.alloc(0);
  port.on('data', (arrived: Buffer) => {
    waiting = Buffer.concat([waiting, arrived]);
    const line = waiting.indexOf('\n');
    if (line < 0) return;
    const [size, ...args] = waiting.toString('utf8', 0, line).split(' ');
    const end = line + 1 + Number(size);
    if (waiting.length < end) return;
    const { code, bytes } = compile(waiting.subarray(line + 1, end), args);
    waiting = waiting.subarray(end);
    port.write(`${code} ${bytes.length}\n`);
    port.write(bytes);
  });
}

function compile(archive: Uint8Array, args: readonly string[]): Compiled {
  const folder = mkdtempSync(join(tmpdir(), 'moat-compiler-'));
  try {
    execFileSync('tar', ['-xf', '-'], { cwd: folder, input: archive });
    const object = join(folder, 'object');
    const here = args.map((arg, index) => (args[index - 1] === '-o' ? object : arg));
    const stdin = join(folder, 'stdin');
    const input = existsSync(stdin) ? readFileSync(stdin) : '';
    execFileSync('clang', here, { cwd: folder, input, stdio: ['pipe', 'ignore', 'pipe'] });
    return { code: 0, bytes: readFileSync(object) };
  } catch (error) {
    const said = (error as { readonly stderr?: Uint8Array }).stderr;
    return { code: 1, bytes: said ?? Buffer.from(String(error)) };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

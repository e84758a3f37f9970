// iproute2, called in batches: a few processes for any number of namespaces, links and routes.
import { spawn } from 'node:child_process';
import { errorText, SandboxError } from './error.ts';

/** Runs `ip` commands in order, in one process, inside a namespace (null: this process's own). Stops at the first failure. */
export async function ipBatch(netns: string | null, lines: readonly string[]): Promise<void> {
  if (lines.length === 0) return;
  const result = await run([...inside(netns), '-batch', '-'], `${lines.join('\n')}\n`);
  if (result.code === 0) return;
  throw failure(netns, lines, result.error);
}

/** As `ipBatch`, where some of the things to remove may be gone already: goes on after a failure, and reports none. */
export async function ipRemove(netns: string | null, lines: readonly string[]): Promise<void> {
  if (lines.length > 0) await run([...inside(netns), '-force', '-batch', '-'], `${lines.join('\n')}\n`);
}

/** The parsed output of `ip -json …`. */
export async function ipJson(netns: string | null, args: readonly string[]): Promise<unknown> {
  const result = await run([...inside(netns), '-json', ...args], '');
  if (result.code !== 0) throw failure(netns, [args.join(' ')], result.error);
  return result.output.trim() === '' ? [] : JSON.parse(result.output);
}

function inside(netns: string | null): readonly string[] {
  return netns === null ? [] : ['-n', netns];
}

/** Names the line that failed: iproute2 says `Command failed -:LINE`. */
function failure(netns: string | null, lines: readonly string[], error: string): SandboxError {
  const line = /Command failed -:(\d+)/.exec(error)?.[1];
  const command = lines[Number(line ?? 1) - 1] ?? '';
  const place = netns === null ? '' : ` in ${netns}`;
  const said = error.trim().split('\n')[0] ?? '';
  return new SandboxError(
    'ip',
    `'ip ${command}'${place} failed: ${said}`,
    'check that you are root and iproute2 works',
  );
}

type Finished = { readonly code: number; readonly output: string; readonly error: string };

function run(args: readonly string[], input: string): Promise<Finished> {
  const { promise, resolve, reject } = Promise.withResolvers<Finished>();
  const child = spawn('ip', args, { stdio: 'pipe' });
  let output = '';
  let error = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    error += text;
  });
  child.on('error', (cause) =>
    reject(new SandboxError('ip', `can't run ip: ${errorText(cause)}`, 'install iproute2', cause)),
  );
  child.on('close', (code) => resolve({ code: code ?? 1, output, error }));
  // A child that ends early closes its input: its exit code tells, not the broken pipe.
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  return promise;
}

// iproute2, called in batches: a few processes for any number of namespaces, links and routes.
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { closeSocket, inNetns, openNetns } from '#kernel/sockets.ts';

/** `ip` failed, or can't be run. `command`: the line that failed. */
export class IpError extends Error {
  readonly command: string;

  constructor(message: string, command: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'IpError';
    this.command = command;
  }
}

/**
 * Runs `ip` commands in order, in one process, inside the namespace that a file stands for (null: this process's own).
 * Stops at the first failure, and throws IpError.
 */
export async function ipBatch(netns: string | null, lines: readonly string[]): Promise<void> {
  if (lines.length === 0) return;
  const [failure] = failuresOf(await run(netns, ['-batch', '-'], lines), lines);
  if (failure !== undefined) throw failure.error;
}

/** As `ipBatch`, but goes on after a failure. Returns what failed, by the line's place. */
export async function ipForce(netns: string | null, lines: readonly string[]): Promise<ReadonlyMap<number, IpError>> {
  if (lines.length === 0) return new Map();
  const failures = failuresOf(await run(netns, ['-force', '-batch', '-'], lines), lines);
  return new Map(failures.map(({ line, error }) => [line, error]));
}

/** The parsed output of `ip -json …`. */
export async function ipJson(netns: string | null, args: readonly string[]): Promise<unknown> {
  const result = await run(netns, ['-json', ...args], []);
  if (result.code !== 0) throw failureOf(args.join(' '), result.error);
  return result.output.trim() === '' ? [] : JSON.parse(result.output);
}

type Failure = { readonly line: number; readonly error: IpError };

/** iproute2 says what is wrong, and then `Command failed -:LINE`. Where it names no line, the first stands for all. */
function failuresOf(result: Finished, lines: readonly string[]): readonly Failure[] {
  if (result.code === 0) return [];
  const said = [...result.error.matchAll(/((?:.*\n)*?)Command failed -:(\d+)(?:\n|$)/g)];
  const found = said.map(([, text = '', line]) => ({ line: Number(line) - 1, text }));
  const all = found.length === 0 ? [{ line: 0, text: result.error }] : found;
  return all.map(({ line, text }) => ({ line, error: failureOf(lines[line] ?? '', text) }));
}

function failureOf(command: string, said: string): IpError {
  return new IpError(`'ip ${command}' failed: ${said.trim().split('\n')[0] ?? ''}`, command);
}

type Finished = { readonly code: number; readonly output: string; readonly error: string };

function run(netns: string | null, args: readonly string[], lines: readonly string[]): Promise<Finished> {
  const { promise, resolve, reject } = Promise.withResolvers<Finished>();
  const child = start(netns, args);
  let output = '';
  let error = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    error += text;
  });
  child.on('error', (cause) => reject(new IpError(`can't run ip: ${cause.message}`, args.join(' '), cause)));
  child.on('close', (code) => resolve({ code: code ?? 1, output, error }));
  // A child that ends early closes its input: its exit code tells, not the broken pipe.
  child.stdin.on('error', () => undefined);
  child.stdin.end(lines.length === 0 ? '' : `${lines.join('\n')}\n`);
  return promise;
}

/** A child is born in the namespace that the thread is in: that is quicker than `ip -n`, and takes any file. */
function start(netns: string | null, args: readonly string[]): ChildProcessWithoutNullStreams {
  const begin = (): ChildProcessWithoutNullStreams => spawn('ip', args, { stdio: 'pipe' });
  if (netns === null) return begin();
  const handle = openNetns(netns);
  try {
    return inNetns(handle, begin);
  } finally {
    closeSocket(handle);
  }
}

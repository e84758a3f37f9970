// The command line: finds the command, loads its file alone (each brings its own libraries, and start-up counts), runs
// it, and turns whatever ends it into a message and an exit code.
import { Command, CommanderError } from 'commander';
import { VERSION } from '#agent/version.ts';
import { renderDiagnostic } from '#policy/render.ts';
import { InvalidInputError, SandboxError } from '#sandbox/error.ts';
import { COMMANDS } from './commands.ts';
import { CommandError } from './errors.ts';
import { endQuietlyOnClosedPipe } from './output.ts';

/** Runs one command. Resolves with the exit code: the command's own, or 2 where it can't run. */
export async function run(args: readonly string[]): Promise<number> {
  endQuietlyOnClosedPipe();
  let exitCode = 0;
  const program = await makeProgram(args, (code) => {
    exitCode = code;
  });
  try {
    await program.parseAsync(args, { from: 'user' });
    return exitCode;
  } catch (error) {
    return report(error);
  }
}

async function makeProgram(args: readonly string[], done: (code: number) => void): Promise<Command> {
  const program = new Command('moat')
    .description('Kubernetes network policy: enforced, explained, verified.')
    .version(VERSION)
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'moat: ')) })
    .showHelpAfterError('(--help says more)');
  const wanted = args.find((each) => !each.startsWith('-'));
  for (const { name, summary, load } of COMMANDS) {
    const command = program.command(name).summary(summary);
    if (name === wanted) (await load()).define(command, done);
  }
  return program;
}

/** Commander has printed its own errors; what asked for help or the version is no error. */
function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (error instanceof CommandError) {
    if (error.message !== '') console.error(`moat: ${error.message}`);
    return error.exitCode;
  }
  if (error instanceof SandboxError) return reportSandboxError(error);
  const text = error instanceof Error ? error.message : String(error);
  console.error(`moat: ${text}\nmoat: this is a bug in moat; MOAT_DEBUG=1 shows where`);
  if (process.env.MOAT_DEBUG && error instanceof Error) console.error(error.stack);
  return 2;
}

function reportSandboxError(error: SandboxError): number {
  if (error instanceof InvalidInputError) for (const each of error.diagnostics) console.error(renderDiagnostic(each));
  console.error(`moat: ${error.message}: ${error.hint}`);
  return 2;
}

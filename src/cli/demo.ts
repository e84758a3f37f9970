// `moat demo`: the tour. An application comes up from its manifests; who reaches whom without its policies and with
// them; a live edit that cuts an open connection; and why packets were denied, from the kernel's own rule ids.
import { join, relative } from 'node:path';
import type { Command } from 'commander';
import { renderDiagnostic } from '#policy/render.ts';
import type { Semantics } from '#policy/world.ts';
import type { ProbeRow } from '#sandbox/probe-judge.ts';
import { type Sandbox, startSandbox } from '#sandbox/sandbox.ts';
import { copyManifests, type ManifestCopy } from './demo-copy.ts';
import { type Denied, pickDenied } from './demo-denied.ts';
import { findEdit } from './demo-edit.ts';
import { type Cut, liveEdit } from './demo-live.ts';
import { cutText, deniedText, squareText, stage, worldText } from './demo-text.ts';
import { CommandError } from './errors.ts';
import { readInput } from './input.ts';
import { whileUp } from './interrupt.ts';
import { type InputOptions, inputOptionsOr, outputOption, semanticsOf } from './options.ts';
import { print, printJson } from './output.ts';
import { probeNow } from './probe-packets.ts';

type Options = InputOptions & { readonly output: 'text' | 'json'; readonly once: boolean; readonly name: string };

/** Everything that the tour found out. Times are milliseconds. */
type Story = {
  readonly pods: number;
  readonly nodes: number;
  readonly policies: number;
  readonly upMs: number;
  readonly before: readonly ProbeRow[];
  readonly after: readonly ProbeRow[];
  readonly policiesAppliedMs: number;
  /** Null where no edit of one rule would deny anything. */
  readonly edit: Cut | null;
  readonly denied: readonly Denied[];
};

const SHOP = join(import.meta.dirname, '../../examples/shop');

/** Adds the command's options and its action. */
export function define(command: Command, done: (exitCode: number) => void): void {
  inputOptionsOr(command, 'examples/shop');
  outputOption(command, ['text', 'json'])
    .option('--once', 'end after the tour, instead of staying up', false)
    .option('--name <name>', 'name of the sandbox', 'demo')
    .action(async (given: Options & Partial<Pick<Options, 'filename'>>) => {
      const options = { ...given, filename: given.filename ?? [relative(process.cwd(), SHOP)] };
      if (options.filename.includes('-'))
        throw new CommandError('the demo edits its manifests: name a file or folder, not -');
      readInput(options);
      const copy = copyManifests(options.filename, options.name);
      try {
        await tour(copy, options);
      } finally {
        copy.remove();
      }
      done(0);
    });
}

/** What Ctrl-C takes down: the sandbox, and the copy of its manifests. */
type Stage = { readonly sandbox: Sandbox; readonly down: () => Promise<void> };

async function tour(copy: ManifestCopy, options: Options): Promise<void> {
  const startMs = performance.now();
  const { name, lenient } = options;
  const start = async (): Promise<Stage> => {
    const sandbox = await startSandbox({ name, lenient, paths: copy.paths, semantics: semanticsOf(options) });
    return { sandbox, down: () => sandbox.down().finally(copy.remove) };
  };
  const say = options.output === 'text' ? print : (): void => undefined;
  say(stage('The application comes up'));
  await whileUp(start, async ({ sandbox }) => {
    const upMs = performance.now() - startMs;
    say(
      `${worldText(sandbox.world)}\nup in ${(upMs / 1000).toFixed(1)} s: each pod a network namespace, each node an agent with its own programs`,
    );
    const story = await tell(sandbox, copy, { upMs, say, semantics: semanticsOf(options) });
    if (options.output === 'json') printJson(story);
    if (!options.once) await stay(sandbox, copy, say);
  });
}

type Telling = { readonly upMs: number; readonly say: (text: string) => void; readonly semantics: Semantics };

async function tell(sandbox: Sandbox, copy: ManifestCopy, { upMs, say, semantics }: Telling): Promise<Story> {
  const { objects, world } = sandbox;
  const policies = objects.filter(({ kind }) => kind === 'NetworkPolicy');
  const others = objects.filter(({ kind }) => kind !== 'NetworkPolicy');

  say(stage('Without its policies'));
  await sandbox.setObjects(others);
  const before = await probeNow(sandbox, { ports: null });
  say(squareText(before.rows, world));

  say(stage('With its policies'));
  const change = await sandbox.applyObjects(policies);
  say(`${policies.length} policies in force on every node ${change.totalMs.toFixed(1)} ms after they were applied`);
  const after = await probeNow(sandbox, { ports: null });
  say(squareText(after.rows, world));

  say(stage('A live edit, and a connection that was open'));
  const edit = findEdit({ objects, world, semantics }, after.rows);
  const cut = edit === null ? null : await liveEdit(sandbox, edit, copy.shown);
  say(cut === null ? 'Nothing here is allowed by one rule alone, so there is no rule to take away.' : cutText(cut));

  say(stage('Why packets were dropped, from the rule ids in their kernel events'));
  const denied = pickDenied(after.rows, after.rules, copy.shown);
  say(denied.length === 0 ? 'None was dropped.' : deniedText(denied));
  const { size: pods } = world.pods;
  const counts = { pods, nodes: world.nodes.size, policies: policies.length };
  return {
    ...counts,
    upMs,
    before: before.rows,
    after: after.rows,
    policiesAppliedMs: change.totalMs,
    edit: cut,
    denied,
  };
}

/** Until Ctrl-C, or until somebody takes the sandbox down. */
async function stay(sandbox: Sandbox, copy: ManifestCopy, say: (text: string) => void): Promise<void> {
  say(stage('It stays up until Ctrl-C'));
  say(`edit the files in ${copy.folder}: changes take effect at once`);
  say(`in another shell: ./moat sandbox status --name ${sandbox.name}, or probe, or apply -f FILE`);
  sandbox.onEvent((event) => {
    if (event.kind === 'notice') say(event.text);
    if (event.kind !== 'change') return;
    for (const each of event.change.diagnostics) say(renderDiagnostic(each));
    for (const each of event.change.changes) say(`${each} (${event.change.totalMs.toFixed(1)} ms)`);
  });
  await sandbox.closed;
}

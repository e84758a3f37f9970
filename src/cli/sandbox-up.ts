// `moat sandbox up`: holds a sandbox in this process until Ctrl-C, or starts a process that does and returns.
import type { SandboxEvent } from '#sandbox/api.ts';
import { startDetached } from '#sandbox/detached.ts';
import { startSandbox } from '#sandbox/sandbox.ts';
import { printDiagnostics } from './input.ts';
import { whileUp } from './interrupt.ts';
import { type InputOptions, semanticsOf } from './options.ts';
import { print, printJson } from './output.ts';
import { changeText, statusText } from './sandbox-text.ts';

export type UpOptions = InputOptions & {
  readonly name: string;
  readonly output: 'text' | 'json';
  readonly nodes: number;
  readonly detach: boolean;
};

/** Resolves when the sandbox has been taken down, or, detached, when it is up. */
export async function up(options: UpOptions): Promise<void> {
  if (options.detach) return await detach(options);
  const { name, filename: paths, nodes, lenient } = options;
  let isUp = false;
  const onEvent = (event: SandboxEvent): void => say(event, { output: options.output, isUp });
  const start = () => startSandbox({ name, paths, nodes, lenient, semantics: semanticsOf(options), onEvent });
  await whileUp(start, async (sandbox) => {
    const status = await sandbox.status();
    isUp = true;
    if (options.output === 'json') printJson(status);
    else print(`${await statusText(status)}\n\nup; changes of the files take effect at once; Ctrl-C takes it down`);
    await sandbox.closed;
  });
}

/** What happens while it is up. The first change is the whole input: its objects are not news, its faults are. */
function say(
  event: SandboxEvent,
  { output, isUp }: { readonly output: UpOptions['output']; readonly isUp: boolean },
): void {
  if (event.kind === 'notice') console.error(`moat: ${event.text}`);
  if (event.kind !== 'change') return;
  printDiagnostics(event.change.diagnostics, output);
  if (isUp && output === 'text' && event.change.changes.length > 0) print(changeText(event.change));
}

/** In a process of its own, which stays when this one ends. */
async function detach(options: UpOptions): Promise<void> {
  const { name, filename: paths, nodes, lenient } = options;
  const client = await startDetached({ name, paths, nodes, lenient, semantics: semanticsOf(options) });
  const status = await client.status();
  client.close();
  if (options.output === 'json') printJson(status);
  else print(`${await statusText(status)}\n\nup; take it down with: moat sandbox down --name ${name}`);
}

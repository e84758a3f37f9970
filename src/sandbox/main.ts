// A sandbox that nobody's terminal holds: `node main.ts OPTIONS`, OPTIONS a JSON object (DetachedOptions). Tells the
// process that started it, once, whether it is up; then lives until `down`, SIGTERM or SIGINT.
import { appendFileSync } from 'node:fs';
import type { SandboxEvent } from './api.ts';
import { refusalOf } from './control.ts';
import type { DetachedMessage, DetachedOptions } from './detached.ts';
import { statePaths } from './names.ts';
import { startSandbox } from './sandbox.ts';

async function main(options: DetachedOptions): Promise<void> {
  const { log } = statePaths(options.name);
  const sandbox = await startSandbox({ ...options, onEvent: (event) => note(log, event) });
  const end = (): void => void sandbox.down();
  process.on('SIGTERM', end);
  process.on('SIGINT', end);
  tell({ kind: 'up' });
  await sandbox.closed;
  // The last answers go out first; whatever else might hold this process does not.
  setTimeout(() => process.exit(0), 500).unref();
}

function note(log: string, event: SandboxEvent): void {
  if (event.kind === 'flows') return;
  const lines = event.kind === 'notice' ? [event.text] : event.change.changes;
  const time = new Date().toISOString();
  appendFileSync(log, lines.map((line) => `${time} ${line}\n`).join(''), { mode: 0o600 });
}

/** The other end may be gone: then nobody is left to tell. */
function tell(message: DetachedMessage): void {
  if (process.connected) process.send?.(message, () => process.disconnect());
}

main(JSON.parse(process.argv[2] ?? '{}') as DetachedOptions).catch((error) => {
  tell({ kind: 'failed', refusal: refusalOf(error) });
  process.exitCode = 1;
});

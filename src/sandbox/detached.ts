// Starts a sandbox in a process of its own, which stays when this one ends.
import { spawn } from 'node:child_process';
import { join, resolve } from 'node:path';
import type { SandboxOptions } from './api.ts';
import { connectSandbox, errorOf, type SandboxClient } from './client.ts';
import type { Refusal } from './control.ts';
import { SandboxError } from './error.ts';

/** As SandboxOptions; standard input can't be among the paths, since nobody holds it open. */
export type DetachedOptions = Omit<SandboxOptions, 'onEvent'>;

export type DetachedMessage = { readonly kind: 'up' } | { readonly kind: 'failed'; readonly refusal: Refusal };

/** Resolves when the sandbox is up. Throws what `startSandbox` would throw. Its log is in its state folder. */
export async function startDetached(options: DetachedOptions): Promise<SandboxClient> {
  if (options.paths.includes('-')) {
    throw new SandboxError('detach', 'a detached sandbox can’t read standard input', 'write the manifests to a file');
  }
  const paths = options.paths.map((path) => resolve(path));
  const child = spawn(process.execPath, [join(import.meta.dirname, 'main.ts'), JSON.stringify({ ...options, paths })], {
    detached: true,
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
  const { promise, resolve: done, reject } = Promise.withResolvers<DetachedMessage>();
  child.once('message', (message) => done(message as DetachedMessage));
  child.once('error', reject);
  child.once('exit', (code) => {
    reject(new SandboxError('detach', `the sandbox's process ended (exit code ${code})`, 'start it without --detach'));
  });
  const message = await promise;
  child.unref();
  if (child.connected) child.disconnect();
  if (message.kind === 'failed') throw errorOf(message.refusal);
  return await connectSandbox(options.name);
}

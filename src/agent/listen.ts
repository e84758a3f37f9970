// Sockets that their owner alone can use: the folder is closed to others, and so is the file.
import { chmodSync, rmSync } from 'node:fs';
import type { Server } from 'node:net';
import { dirname } from 'node:path';
import { strangeFolder } from '#kernel/own-folder.ts';

/**
 * Listens on a socket file. One that an ended process left there is replaced: nobody answers on it. Throws where others
 * can change its folder: they could put a socket of their own in its place.
 */
export async function listenPrivately(server: Server, path: string): Promise<void> {
  const strange = strangeFolder(dirname(path));
  if (strange !== null) throw new Error(`${strange}: remove it, or choose another for the socket`);
  rmSync(path, { force: true });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  // The file is there before anybody could change its mode: it must be closed from the start, whatever the umask.
  const before = process.umask(0o177);
  try {
    server.listen(path, resolve);
  } finally {
    process.umask(before);
  }
  await promise;
  server.off('error', reject);
  chmodSync(path, 0o600);
}

// Folders that nobody else may have made, opened or put a link in place of.
import { lstatSync } from 'node:fs';

const S_IFDIR = 0o040000;
const S_IFMT = 0o170000;

/** What is wrong with a folder that this user alone should be able to change; null where nothing is. `rights`: others' that it may not give. */
export function strangeFolder(path: string, rights = 0o022): string | null {
  const { uid, mode } = lstatSync(path);
  if (uid === process.getuid?.() && (mode & (S_IFMT | rights)) === S_IFDIR) return null;
  const kind = (mode & S_IFMT) === S_IFDIR ? 'folder' : 'no folder';
  return `${path} is not a folder that its owner alone can change (${kind}, owner ${uid}, mode ${(mode & 0o7777).toString(8)})`;
}

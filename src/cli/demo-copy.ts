// A private copy of the manifests for the demo, which edits them: nobody's own files are touched. Messages name the
// originals.
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';

/** The copy. `shown` turns a copied file's name back into the original's. */
export type ManifestCopy = {
  readonly folder: string;
  readonly paths: readonly string[];
  readonly shown: (file: string) => string;
  readonly remove: () => void;
};

/** Copies files and folders to a folder with this name in its own; links are followed. Standard input can't be edited, so `-` is refused by the caller. */
export function copyManifests(paths: readonly string[], name: string): ManifestCopy {
  const folder = mkdtempSync(join(tmpdir(), `moat-${name}-`));
  const pairs = paths.map((original, index) => {
    const copied =
      paths.length === 1 ? join(folder, basename(resolve(original))) : join(folder, `${index}-${basename(original)}`);
    cpSync(original, copied, { recursive: true, dereference: true });
    return { original, copied };
  });
  const shown = (file: string): string => {
    const pair = pairs.find(({ copied }) => file.startsWith(copied));
    return pair === undefined ? file : pair.original.replace(/\/+$/, '') + file.slice(pair.copied.length);
  };
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  return { folder, paths: pairs.map(({ copied }) => copied), shown, remove };
}

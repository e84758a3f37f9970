// One image by all the names that the example shop's manifests have for theirs: they are applied as they stand, and their
// containers answer and ask as `shop.c` does. Every one of them listens on every port of the shop, so that it is policy alone
// that says who gets an answer.
import { globSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { archive } from '../image/oci.ts';
import { run } from './commands.ts';
import { ROOT } from './places.ts';

/** The shop's own namespaces, and those who look at it; not the cluster's DNS, which is no program of this kind. */
export const SHOP_FOLDERS: readonly string[] = ['frontend', 'backend', 'data', 'monitoring'].map((name) =>
  join(ROOT, 'examples/shop', name),
);

/** Makes the archive in a folder; its path. */
export async function makeShopImage(folder: string): Promise<string> {
  const root = join(folder, 'shop');
  mkdirSync(root, { recursive: true });
  const source = join(import.meta.dirname, 'shop.c');
  await run('clang', ['-O2', '-static', '-Wall', '-Werror', '-o', join(root, 'shop'), source]);
  const manifests = SHOP_FOLDERS.flatMap((each) => globSync(join(each, '*.yaml')))
    .map((path) => readFileSync(path, 'utf8'))
    .join('\n');
  const each = (pattern: RegExp): readonly string[] => [
    ...new Set([...manifests.matchAll(pattern)].map(([, value = '']) => value)),
  ];
  const [first = '', ...others] = each(/\bimage: (\S+)/g).map(fullName);
  const ports = each(/\bcontainerPort: (\d+)/g);
  const path = archive(first, root, { Entrypoint: ['/shop', 'serve', ...ports], Env: ['PATH=/'] }, others);
  rmSync(root, { recursive: true });
  return path;
}

/** As runtimes write it out: `redis:7.4` is of Docker's library. */
function fullName(name: string): string {
  const [first = '', ...rest] = name.split('/');
  if (rest.length === 0) return `docker.io/library/${name}`;
  return /[.:]/.test(first) ? name : `docker.io/${name}`;
}

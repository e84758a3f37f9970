// Programs of this machine in an image's root folder: where they are, and the libraries that they need.
import { execFileSync } from 'node:child_process';
import { mkdirSync, realpathSync, rmSync, symlinkSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

/** Makes a root anew, with the folders that programs expect. */
export function makeFolders(root: string): void {
  rmSync(root, { recursive: true, force: true });
  for (const folder of ['usr/bin', 'usr/sbin', 'usr/lib', 'usr/lib64', 'etc', 'run', 'var', 'tmp']) {
    mkdirSync(join(root, folder), { recursive: true });
  }
  for (const folder of ['bin', 'sbin', 'lib', 'lib64']) symlinkSync(`usr/${folder}`, join(root, folder));
}

/** The path of a program, wherever it is installed. */
export function locate(program: string): string {
  return execFileSync('sh', ['-c', `command -v ${program}`], {
    encoding: 'utf8',
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
  }).trim();
}

/** The libraries that a program or library needs, itself among them where it is one, and the linker. */
export function needs(path: string): readonly string[] {
  const said = execFileSync('ldd', [path], { encoding: 'utf8' });
  const found = [...said.matchAll(/^\s+(?:\S+ => )?(\/\S+) \(/gm)].map(([, each = '']) => each);
  return basename(path).includes('.so') ? [path, ...found] : found;
}

/** The same place below another root; folders are where they are without links. */
export function target(root: string, path: string): string {
  const folder = join(root, realpathSync(dirname(path)));
  mkdirSync(folder, { recursive: true });
  return join(folder, basename(path));
}

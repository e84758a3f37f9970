// The image that the pods of the Kubernetes e2e suite run: agnhost, built of its Go source, with the commands that tests call in it.
import { copyFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../cluster/commands.ts';
import { DEBIAN, KUBERNETES } from '../cluster/places.ts';
import { archive } from '../image/oci.ts';
import { locate, makeFolders, needs, target } from '../image/programs.ts';

/** Whence the suite takes its images: nobody has a registry of that name, so none is pulled. */
const REGISTRY = 'moat.test/e2e';
/**
 * What tests call beside agnhost and what busybox has: its nc lacks options that they give, its wget crashes as Debian links it
 * (1.35.0, at any address), and its shell would take these two.
 */
const COMMANDS: Readonly<Record<string, string>> = {
  ...{ sh: 'dash', curl: 'curl', wget: 'wget', nc: 'nc.openbsd', ss: 'ss' },
};

/** Writes the file by which the suite knows the registry; its path. */
export function writeRegistries(folder: string): string {
  const path = join(folder, 'registries.yaml');
  writeFileSync(path, `promoterE2eRegistry: ${REGISTRY}\ngcRegistry: ${REGISTRY}\n`);
  return path;
}

/** Makes the archive in a folder; its path. `registries`: as writeRegistries has it. */
export async function makeAgnhost(folder: string, registries: string): Promise<string> {
  const images = await run(join(KUBERNETES, 'e2e.test'), ['--list-images', `--kube-test-repo-list=${registries}`]);
  const name = images.split('\n').find((image) => image.startsWith(`${REGISTRY}/agnhost:`));
  if (name === undefined) throw new Error(`the suite names no agnhost:\n${images}`);
  const root = join(folder, 'agnhost');
  makeFolders(root);
  copyFileSync(join(KUBERNETES, 'agnhost'), join(root, 'agnhost'));
  const busybox = join(DEBIAN, 'bin/busybox');
  copyFileSync(busybox, join(root, 'bin/busybox'));
  for (const applet of (await run(busybox, ['--list'])).split('\n')) {
    const own = applet === '' || applet === 'busybox' || Object.keys(COMMANDS).includes(applet);
    if (!own) symlinkSync('busybox', join(root, 'bin', applet));
  }
  for (const [command, program] of Object.entries(COMMANDS)) {
    const path = locate(program);
    copyFileSync(path, join(root, 'bin', command));
    for (const each of needs(path)) copyFileSync(each, target(root, each));
  }
  const path = archive(name, root, { Env: ['PATH=/bin'], Entrypoint: ['/agnhost'], Cmd: ['pause'] });
  rmSync(root, { recursive: true });
  return path;
}

// Container images, as archives that `ctr images import` takes: none is pulled. Moat's own, and those of static programs.
import { copyFileSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { AGENT_ARCHIVE } from '../image/names.ts';
import { archive } from '../image/oci.ts';
import { run } from './commands.ts';
import { DEBIAN, KUBERNETES, PAUSE, ROOT } from './places.ts';
import { makeShopImage } from './shop-image.ts';

/** What a pod's sandbox runs. */
export const PAUSE_IMAGE = 'moat.test/pause:1';
/** A shell and busybox's tools, httpd and wget among them. */
export const TOOLS_IMAGE = 'moat.test/tools:1';
/** CoreDNS, of its Go module. */
export const COREDNS_IMAGE = 'moat.test/coredns:1';

const BUSYBOX = join(DEBIAN, 'bin/busybox');

/** Makes the archives in a folder; their paths. */
export async function makeImages(folder: string): Promise<readonly string[]> {
  const roots = { pause: join(folder, 'pause'), tools: join(folder, 'tools'), coredns: join(folder, 'coredns') };
  for (const each of [roots.pause, roots.coredns, join(roots.tools, 'bin'), join(roots.tools, 'tmp')]) {
    mkdirSync(each, { recursive: true });
  }
  copyFileSync(PAUSE, join(roots.pause, 'pause'));
  copyFileSync(join(KUBERNETES, 'coredns'), join(roots.coredns, 'coredns'));
  copyFileSync(BUSYBOX, join(roots.tools, 'bin/busybox'));
  const applets = (await run(BUSYBOX, ['--list'])).split('\n').filter((name) => name !== '' && name !== 'busybox');
  for (const name of applets) symlinkSync('busybox', join(roots.tools, 'bin', name));
  await run(process.execPath, ['--disable-warning=ExperimentalWarning', join(ROOT, 'tools/image/build.ts')]);
  const archives = [
    archive(PAUSE_IMAGE, roots.pause, { Entrypoint: ['/pause'] }),
    archive(COREDNS_IMAGE, roots.coredns, { Entrypoint: ['/coredns'] }),
    archive(TOOLS_IMAGE, roots.tools, { Env: ['PATH=/bin'], Cmd: ['sh'] }),
  ];
  for (const root of Object.values(roots)) rmSync(root, { recursive: true });
  return [...archives, await makeShopImage(folder), AGENT_ARCHIVE];
}

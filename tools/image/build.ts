// `make image`: the agent's image as a folder (build/image/ARCH, what deploy/image/Containerfile copies) and as an archive
// (build/image/ARCH.tar) for `ctr images import`. Says where, and how large.
import { execFileSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { AGENT_ARCHIVE, AGENT_IMAGE } from './names.ts';
import { archive } from './oci.ts';
import { makeRoot } from './root.ts';

const ROOT = join(import.meta.dirname, '../..');

/** What a Containerfile says beside the files, in the words of an image's configuration. */
function configOf(containerfile: string): Readonly<Record<string, unknown>> {
  const Env = (/^ENV (.*)$/m.exec(containerfile)?.[1] ?? '').split(' ');
  const Entrypoint: unknown = JSON.parse(/^ENTRYPOINT (.*)$/m.exec(containerfile)?.[1] ?? '');
  return { Env, Entrypoint };
}

for (const script of ['build-bpf.sh', 'build-cni.sh']) execFileSync('sh', [join(ROOT, 'tools', script)]);
const root = AGENT_ARCHIVE.replace(/\.tar$/, '');
makeRoot(root);
archive(AGENT_IMAGE, root, configOf(readFileSync(join(ROOT, 'deploy/image/Containerfile'), 'utf8')));
console.log(`${AGENT_ARCHIVE}: ${AGENT_IMAGE}, ${(statSync(AGENT_ARCHIVE).size / 1e6).toFixed(0)} MB`);

// Container images without a builder: the OCI image layout, of one layer, in an archive that `ctr images import` and others take.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** As images name architectures. */
export const ARCHITECTURE: string = { x64: 'amd64' }[process.arch as string] ?? process.arch;
/** Equal content makes equal archives. */
const STABLE = ['--sort=name', '--mtime=@0', '--owner=0', '--group=0', '--numeric-owner'];

/**
 * Writes ROOT.tar beside a root folder, for this machine's architecture; its path. `config`: as the OCI image configuration has
 * it. `others`: names that the image has besides.
 */
export function archive(
  name: string,
  root: string,
  config: Readonly<Record<string, unknown>>,
  others: readonly string[] = [],
): string {
  const layout = `${root}.oci`;
  rmSync(layout, { recursive: true, force: true });
  mkdirSync(join(layout, 'blobs/sha256'), { recursive: true });
  const layer = `${root}.layer.tar`;
  execFileSync('tar', [...STABLE, '-C', root, '-cf', layer, '.']);
  const keep = (content: Buffer, mediaType: string): Descriptor => {
    const digest = createHash('sha256').update(content).digest('hex');
    writeFileSync(join(layout, 'blobs/sha256', digest), content);
    return { mediaType, digest: `sha256:${digest}`, size: content.length };
  };
  const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
  const kind = 'application/vnd.oci.image';
  const layered = keep(readFileSync(layer), `${kind}.layer.v1.tar`);
  const platform = { architecture: ARCHITECTURE, os: 'linux' };
  const rootfs = { type: 'layers', diff_ids: [layered.digest] };
  const configured = keep(json({ ...platform, config, rootfs }), `${kind}.config.v1+json`);
  const manifestKind = `${kind}.manifest.v1+json`;
  const manifest = { schemaVersion: 2, mediaType: manifestKind, config: configured, layers: [layered] };
  const kept = keep(json(manifest), manifestKind);
  const manifests = [name, ...others].map((each) => ({
    ...kept,
    ...{ platform, annotations: { 'io.containerd.image.name': each } },
  }));
  writeFileSync(join(layout, 'index.json'), json({ schemaVersion: 2, manifests }));
  writeFileSync(join(layout, 'oci-layout'), json({ imageLayoutVersion: '1.0.0' }));
  const path = `${root}.tar`;
  execFileSync('tar', [...STABLE, '-C', layout, '-cf', path, '.']);
  for (const each of [layout, layer]) rmSync(each, { recursive: true });
  return path;
}

type Descriptor = { readonly mediaType: string; readonly digest: string; readonly size: number };

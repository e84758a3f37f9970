// Paths → world: what every command that takes `-f` calls.

import { parseManifest } from '#cluster/manifests/parse.ts';
import { type Diagnostic, firstOfInput } from '#policy/diagnostic.ts';
import type { SourceObject } from '#policy/object.ts';
import type { World } from '#policy/world.ts';
import { readFiles } from './files.ts';
import { type BuildOptions, buildWorld, DEFAULT_BUILD } from './world/build.ts';
import type { UnknownKind } from './world/inventory.ts';

export type Loaded = {
  readonly world: World;
  readonly objects: readonly SourceObject[];
  readonly unknownKinds: readonly UnknownKind[];
  readonly diagnostics: readonly Diagnostic[];
};

/** Reads files, directories and `-`. Never throws for what stands in them: `diagnostics` says what is wrong. */
export function loadManifests(paths: readonly string[], options: BuildOptions = DEFAULT_BUILD): Loaded {
  const { files, diagnostics } = readFiles(paths);
  const parsed = files.map((file) => parseManifest(file.text, file.name));
  const objects = parsed.flatMap((file) => file.objects);
  const built = buildWorld(objects, options);
  const found = [...diagnostics, ...parsed.flatMap((file) => file.diagnostics), ...built.diagnostics];
  return { world: built.world, objects, unknownKinds: built.unknownKinds, diagnostics: firstOfInput(found) };
}

/** True where the input must be refused (exit code 2), unless the caller is lenient. */
export function isInvalid(diagnostics: readonly Diagnostic[]): boolean {
  return diagnostics.some(({ severity }) => severity === 'error');
}

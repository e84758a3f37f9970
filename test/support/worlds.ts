// Worlds for tests, written as the YAML that people write.
import assert from 'node:assert/strict';
import { parseManifest } from '#cluster/manifests/parse.ts';
import { type BuildOptions, type Built, buildWorld, DEFAULT_BUILD } from '#cluster/world/build.ts';
import { type Address, parseAddress } from '#net/address.ts';
import type { World } from '#policy/world.ts';

/** What is built from a text, mistakes and all. */
export function buildOf(yaml: string, options: Partial<BuildOptions> = {}): Built {
  const { objects, diagnostics } = parseManifest(yaml, 'world.yaml');
  const built = buildWorld(objects, { ...DEFAULT_BUILD, ...options });
  return { ...built, diagnostics: [...diagnostics, ...built.diagnostics] };
}

/** The world of a text without errors. */
export function worldOf(yaml: string, options: Partial<BuildOptions> = {}): World {
  const { world, diagnostics } = buildOf(yaml, options);
  assert.deepEqual(
    diagnostics.filter(({ severity }) => severity === 'error'),
    [],
  );
  return world;
}

/** An address that the test itself wrote. */
export function addressOf(text: string): Address {
  const address = parseAddress(text);
  assert.ok(address, text);
  return address;
}

// A Namespace object, as the world knows namespaces.
import { NAMESPACE_NAME_LABEL, type Namespace } from '#policy/world.ts';
import { namespaceMode } from './annotations.ts';
import { mappingAt, type Notes, rootOf } from './notes.ts';
import { readLabels } from './pod.ts';

/** The name label is the namespace's own, whatever its labels say. */
export function readNamespace(notes: Notes): Namespace {
  const { name } = notes.object;
  const labels = readLabels(notes, mappingAt(notes, rootOf(notes), 'metadata'));
  const mode = namespaceMode(notes.object) === 'audit' ? ({ mode: 'audit' } as const) : {};
  return { name, labels: { ...labels, [NAMESPACE_NAME_LABEL]: name }, ...mode };
}

// Annotations of Moat's own, on policies and namespaces. One is honoured, a namespace's mode. A policy that its author only
// wants to watch must not be enforced in silence: each that asks for something else than what is done is named.
import { MANIFEST_CODES } from '#cluster/manifests/diagnostics.ts';
import { type Diagnostic, diagnose } from '#policy/diagnostic.ts';
import { type Fields, fieldsOf, show } from '#policy/fields.ts';
import { childPath, type SourceObject } from '#policy/object.ts';
import type { Mode } from '#policy/world.ts';

const PREFIX = 'moat.network/';

/** What is done, whatever an annotation asks for: the value that means just that, and how it is said. */
const DONE: ReadonlyMap<string, { readonly value: string; readonly more: string }> = new Map([
  ['mode', { value: 'enforce', more: '' }],
  ['open-connections', { value: 'recheck', more: ', on open connections too' }],
  ['deny', { value: 'drop', more: ', and what is denied is dropped' }],
]);

/** The mode that a Namespace object asks for: nothing but plain `audit` takes enforcement away. */
export function namespaceMode(object: SourceObject): Mode {
  return annotationsOf(object)[`${PREFIX}mode`] === 'audit' ? 'audit' : 'enforce';
}

function annotationsOf(object: SourceObject): Fields {
  return fieldsOf(fieldsOf(fieldsOf(object.content).metadata).annotations);
}

/** The annotations of an object that ask for what is not built yet, or for what nobody knows. */
export function unheardAnnotations(object: SourceObject): readonly Diagnostic[] {
  if (object.kind !== 'NetworkPolicy' && object.kind !== 'Namespace') return [];
  const annotations = annotationsOf(object);
  const keys = Object.keys(annotations).filter((key) => key.startsWith(PREFIX));
  return keys.flatMap((key) => unheard(object, key, annotations[key]));
}

function unheard(object: SourceObject, key: string, value: unknown): readonly Diagnostic[] {
  const done = DONE.get(key.slice(PREFIX.length));
  if (done !== undefined && done.value === value) return [];
  if (object.kind === 'Namespace' && key === `${PREFIX}mode` && value === 'audit') return [];
  const enforced = object.kind === 'Namespace' ? "the namespace's policies are enforced" : 'the policy is enforced';
  const finding = diagnose(object, childPath('metadata.annotations', key), {
    code: 'annotation-unheard',
    severity: MANIFEST_CODES['annotation-unheard'].severity,
    message: `the annotation ${key}: ${show(value)} is not yet honoured: ${enforced}${done?.more ?? ''}`,
    hint:
      done === undefined
        ? 'No annotation has this name: correct or remove it.'
        : `Remove it, or write ${done.value}, which is what is done.`,
  });
  return [finding];
}

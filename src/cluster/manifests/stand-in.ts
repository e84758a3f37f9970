// What takes the place of a NetworkPolicy whose header can't be understood (policy model, invariant 5): it isolates its
// namespace in both directions and allows nothing. Left out, it would protect nobody.
import { type Fields, fieldsOf } from '#policy/fields.ts';
import type { Origin, SourceObject } from '#policy/object.ts';
import { apiGroup, kindStanding } from './kinds.ts';

const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const HARMLESS = /^[A-Za-z0-9_][-A-Za-z0-9_.]*$/;
const LONGEST_NAME = 253;
const LONGEST_NAMESPACE = 63;

export type NameStanding = 'valid' | 'harmless' | 'unsafe';

/** Names become part of rule ids, keys and paths: one that could be taken for something else is unsafe. */
export function nameStanding(field: 'name' | 'namespace', name: string): NameStanding {
  if (name.length > (field === 'name' ? LONGEST_NAME : LONGEST_NAMESPACE)) return 'unsafe';
  if (SUBDOMAIN.test(name)) return 'valid';
  return HARMLESS.test(name) ? 'harmless' : 'unsafe';
}

/** Whether an object may have been meant as a NetworkPolicy of Kubernetes, whatever is wrong with its header. */
export function mayBePolicy(apiVersion: unknown, kind: unknown): boolean {
  const version = typeof apiVersion === 'string' ? apiVersion : '';
  if (kind === 'NetworkPolicy') return kindStanding(version, kind) !== 'foreign';
  const known = typeof kind === 'string' && kind !== '';
  return apiGroup(version) === 'networking.k8s.io' && (!known || kindStanding(version, kind) === 'misspelt');
}

/**
 * The policy that stands in for an object: under its own name where that is safe, else under one made of its place.
 * Null where its namespace can't be understood either: then there is nothing to isolate.
 */
export function standInFor(content: Fields, origin: Origin | null): SourceObject | null {
  const metadata = fieldsOf(content.metadata);
  const namespace = metadata.namespace ?? '';
  if (typeof namespace !== 'string') return null;
  const scoped = namespace === '' ? 'default' : namespace;
  if (nameStanding('namespace', scoped) === 'unsafe') return null;
  return isolating(scoped, safeName(metadata.name, origin), origin);
}

const POLICY_LINE = /^[ \t{"'-]*kind["']?[ \t]*:[ \t]*["']?NetworkPolicy/m;
const NAMESPACE_FIELD = /(?:^|[{,])[ \t"'-]*namespace["']?[ \t]*:[ \t]*["']?([^\s"',}#]+)/gm;

/**
 * The policies that stand in for a text that is no YAML, but speaks of a NetworkPolicy as people write it: one for each
 * namespace that stands in it, for `default` where none does. A guess, which only ever closes.
 */
export function standInsForText(text: string, origin: Origin): readonly SourceObject[] {
  if (!POLICY_LINE.test(text)) return [];
  const named = [...text.matchAll(NAMESPACE_FIELD)].map(([, namespace = '']) => namespace);
  const safe = new Set(named.filter((namespace) => nameStanding('namespace', namespace) !== 'unsafe'));
  const namespaces = safe.size === 0 ? ['default'] : [...safe];
  return namespaces.map((namespace) => isolating(namespace, safeName(null, origin), origin));
}

/** A NetworkPolicy that isolates every pod of a namespace in both directions, with no rule that allows. */
export function isolating(namespace: string, name: string, origin: Origin | null): SourceObject {
  const header = { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy' };
  const spec = { podSelector: {}, policyTypes: ['Ingress', 'Egress'] };
  return { ...header, namespace, name, content: { ...header, metadata: { name, namespace }, spec }, origin };
}

/** What follows from the fault, for the end of a hint. */
export function consequence(standIn: SourceObject | null): string {
  return standIn === null
    ? ' No namespace can be isolated in its place: until it is corrected, this policy protects nobody.'
    : ` Until it is corrected, the whole namespace ${standIn.namespace} is isolated in its place.`;
}

/** The same for several, as far as people read. */
export function consequences(standIns: readonly SourceObject[]): string {
  const more = standIns.length - SHOWN;
  const rest = more > 0 ? ` So are ${more} other namespaces that it names.` : '';
  return `${standIns.slice(0, SHOWN).map(consequence).join('')}${rest}`;
}

const SHOWN = 5;

function safeName(name: unknown, origin: Origin | null): string {
  if (typeof name === 'string' && nameStanding('name', name) !== 'unsafe') return name;
  const file = (origin?.file ?? '').split('/').at(-1) ?? '';
  const place = `${file} ${origin?.lines[''] ?? 0}`.toLowerCase().replace(/[^a-z0-9]+/g, '-');
  return `not-understood-${place.replace(/^-/, '').slice(-200)}`;
}

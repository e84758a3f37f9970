// networking.k8s.io/v1 NetworkPolicy → Policy. What can not be understood never widens access (policy model, invariant 5):
// a rule with such a part matches nothing, isolation stays, and a subject that can not be read is the whole namespace.
import { type Diagnostic, Findings } from '#policy/diagnostic.ts';
import { type Fields, isAbsent, isFields } from '#policy/fields.ts';
import {
  DEFAULT_TIER,
  type Direction,
  type Peers,
  type Policy,
  type Ports,
  policyKey,
  type Rule,
  type RuleId,
  type Source,
} from '#policy/model.ts';
import { type FieldPath, lineOf, type SourceObject } from '#policy/object.ts';
import { EVERYTHING, type LabelSelector } from '#policy/selector.ts';
import { readPeers } from './peers.ts';
import { readPorts } from './ports.ts';
import { complain, fieldAt, type Located, nullItemAsEmpty, type Reader, readList, readMapping } from './reader.ts';
import { readSelector } from './selectors.ts';

/** A policy, valid or made safe, and what is wrong with its object. Null where the object is not one at all. */
export type Lowered = { readonly value: Policy | null; readonly diagnostics: readonly Diagnostic[] };

const OBJECT_FIELDS = ['apiVersion', 'kind', 'metadata', 'spec', 'status'];
const SPEC_FIELDS = ['podSelector', 'policyTypes', 'ingress', 'egress'];
const NOBODY: Peers = { kind: 'these', peers: [] };
const NOTHING: Ports = { kind: 'these', ports: [] };
/**
 * Characters of a spec as JSON. The API server reads 3 MiB of a request, and etcd stores 1.5 MiB of an object, which for
 * rules are about as much as this.
 */
const LARGEST_SPEC = 4 << 20;
/** Rules of a direction. Each may be a case of its own for every peer, so that they are compiled in half a second. */
const MOST_RULES = 5000;

/** Reads one NetworkPolicy. Offline, any error among the diagnostics makes the object invalid. */
export function lowerNetworkPolicy(object: SourceObject): Lowered {
  const reader: Reader = { object, findings: new Findings() };
  const whole = readMapping(reader, { value: object.content, path: '' }, OBJECT_FIELDS);
  if (!isFields(object.content)) return { value: null, diagnostics: reader.findings.list };
  const found = fieldAt({ value: object.content, path: '' }, 'spec');
  // Without a spec every field has its default: the policy isolates every pod of its namespace. But a field that is
  // not known may be the misspelt spec.
  const spec = isAbsent(found.value) && whole !== null ? { value: {}, path: found.path } : found;
  const value = lowerSpec(reader, spec);
  return { value, diagnostics: reader.findings.list };
}

function lowerSpec(reader: Reader, at: Located): Policy {
  const { object } = reader;
  // An absent spec comes here only beside an unknown field of the object, which was named already.
  const understood = !isAbsent(at.value) && readMapping(reader, at, SPEC_FIELDS) !== null;
  const spec = { value: isFields(at.value) ? at.value : {}, path: at.path };
  const selector = fieldAt(spec, 'podSelector');
  const subject = readSubject(reader, selector, understood);
  const isolates = readIsolation(reader, spec, understood);
  const fits = isOfSize(reader, spec);
  const rules = (direction: Direction): readonly Rule[] => {
    if (!fits) return [];
    const read = readRules(reader, fieldAt(spec, direction), direction);
    if (!isolates[direction]) return [];
    return subject === null ? read.map(closed) : read;
  };
  return {
    key: policyKey('NetworkPolicy', object.namespace, object.name),
    tier: DEFAULT_TIER,
    order: `${object.namespace}/${object.name}`,
    subject: { namespaces: { kind: 'named', name: object.namespace }, pods: subject ?? EVERYTHING },
    isolates,
    egress: rules('egress'),
    ingress: rules('ingress'),
    source: sourceOf(object, 'spec'),
  };
}

/** Rules of a policy larger than that are not even read: they match nothing. */
function isOfSize(reader: Reader, { value, path }: Spec): boolean {
  const size = JSON.stringify(value).length;
  if (size > LARGEST_SPEC) {
    return complainSize(reader, path, `the spec has ${size} characters as JSON, and may have ${LARGEST_SPEC}`);
  }
  for (const direction of ['egress', 'ingress'] as const) {
    const rules = fieldAt({ value, path }, direction);
    if (!Array.isArray(rules.value) || rules.value.length <= MOST_RULES) continue;
    return complainSize(reader, rules.path, `there are ${rules.value.length} rules, and may be ${MOST_RULES}`);
  }
  return true;
}

function complainSize(reader: Reader, path: FieldPath, message: string): false {
  complain(reader, path, {
    code: 'np-too-large',
    message: `${message}; all rules of the policy match nothing`,
    hint: 'Write several policies, wider blocks, or labels in place of addresses.',
  });
  return false;
}

/** Absent means every pod; but where a field of the spec is not known, it may be the misspelt podSelector. */
function readSubject(reader: Reader, at: Located, understood: boolean): LabelSelector | null {
  if (!isAbsent(at.value)) return readSelector(reader, at);
  return understood ? EVERYTHING : null;
}

type Spec = { readonly value: Fields; readonly path: FieldPath };

/** policyTypes with its default: Ingress, and Egress where there are egress rules. Unreadable means both. */
function readIsolation(reader: Reader, spec: Spec, understood: boolean): Policy['isolates'] {
  const items = readList(reader, fieldAt(spec, 'policyTypes'));
  if (items === null) return { egress: true, ingress: true };
  if (items === 'absent' || items.length === 0) {
    const egress = spec.value.egress;
    const hasEgress = Array.isArray(egress) ? egress.length > 0 : !isAbsent(egress);
    // A field that is not known may be a misspelt direction.
    return { egress: hasEgress || !understood, ingress: true };
  }
  const bad = items.filter(({ value }) => value !== 'Ingress' && value !== 'Egress');
  for (const item of bad) complainPolicyType(reader, item.path, `found ${JSON.stringify(item.value)} in policyTypes`);
  if (items.length > 2) complainPolicyType(reader, `${spec.path}.policyTypes`, 'policyTypes has more than two entries');
  const lists = (type: string): boolean => bad.length > 0 || items.some(({ value }) => value === type);
  const isolates = { egress: lists('Egress'), ingress: lists('Ingress') };
  warnInert(reader, spec, isolates);
  return isolates;
}

function complainPolicyType(reader: Reader, path: FieldPath, message: string): void {
  complain(reader, path, { code: 'np-policy-types', message, hint: 'Use Ingress, Egress or both, spelt exactly so.' });
}

function warnInert(reader: Reader, spec: Spec, isolates: Policy['isolates']): void {
  for (const direction of ['egress', 'ingress'] as const) {
    const { value, path } = fieldAt(spec, direction);
    if (isolates[direction] || !Array.isArray(value) || value.length === 0) continue;
    const type = direction === 'egress' ? 'Egress' : 'Ingress';
    complain(reader, path, {
      code: 'np-inert-rules',
      message: `the ${direction} rules have no effect, since policyTypes leaves ${type} out`,
      hint: `Add ${type} to policyTypes, or remove the rules.`,
    });
  }
}

function readRules(reader: Reader, at: Located, direction: Direction): Rule[] {
  const items = readList(reader, at);
  if (items === null || items === 'absent') return [];
  return items.map((item, index) => readRule(reader, nullItemAsEmpty(reader, item), { direction, index }));
}

function readRule(reader: Reader, at: Located, place: { direction: Direction; index: number }): Rule {
  const { object } = reader;
  const peerField = place.direction === 'egress' ? 'to' : 'from';
  const mapping = readMapping(reader, at, [peerField, 'ports']);
  const fields = { value: isFields(at.value) ? at.value : {}, path: at.path };
  const peers = readPeers(reader, fieldAt(fields, peerField));
  const ports = readPorts(reader, fieldAt(fields, 'ports'));
  const rule: Rule = {
    id: `networkpolicy/${object.namespace}/${object.name}/${place.direction}/${place.index}` as RuleId,
    action: 'allow',
    peers: peers ?? NOBODY,
    ports: ports ?? NOTHING,
    source: sourceOf(object, at.path),
  };
  return mapping === null || peers === null || ports === null ? closed(rule) : rule;
}

/** The rule with its id and place, matching nothing. */
function closed(rule: Rule): Rule {
  return { ...rule, peers: NOBODY, ports: NOTHING };
}

function sourceOf(object: SourceObject, path: FieldPath): Source {
  const { kind, namespace, name, origin } = object;
  return { dialect: 'kubernetes', kind, namespace, name, path, file: origin?.file ?? null, line: lineOf(origin, path) };
}

// Atoms: what can be true of an address and matters to a rule of some local endpoint. Counted by use.
import { formatCidr } from '#net/cidr.ts';
import type { Protocol } from '#net/protocol.ts';
import type { NamespaceSelector, Peer } from '#policy/model.ts';
import type { LabelSelector } from '#policy/selector.ts';
import type { AddressSet } from './block-union.ts';
import { type LabelTest, labelTest, quoted, selectorKey } from './labels.ts';

export type AtomNumber = number;

/** A named port in an egress rule; true of a pod that has it, with the number it has there. */
export type PortName = { readonly kind: 'port'; readonly name: string; readonly protocol: Protocol };

/** What rules ask of a peer: a peer selector, the addresses of all its blocks, or a named port. */
export type AtomSpec = PodsPeer | ({ readonly kind: 'addresses' } & AddressSet) | PortName;

type PodsPeer = Extract<Peer, { kind: 'pods' }>;

export type SelectorAtom = {
  readonly kind: 'pods';
  readonly number: AtomNumber;
  readonly namespaces: NamespaceSelector;
  readonly pods: LabelSelector;
  readonly namespaceTest: LabelTest;
  readonly podTest: LabelTest;
};

export type AddressAtom = AddressSet & { readonly kind: 'addresses'; readonly number: AtomNumber };

/** One (name, protocol). What an identity has is one of its numbers: another atom, made when a pod brings it. */
export type PortAtom = PortName & { readonly number: AtomNumber; readonly resolutions: Map<number, AtomNumber> };

export type Atom = SelectorAtom | AddressAtom | PortAtom;

/** A number that a named port has on some pod. */
export type Resolution = { readonly port: AtomNumber; readonly value: number };

/** Text that is equal for equal atoms. */
export function atomKey(spec: AtomSpec): string {
  switch (spec.kind) {
    case 'pods':
      return `pods ${namespacesKey(spec.namespaces)} ${selectorKey(spec.pods)}`;
    case 'addresses':
      return `addresses ${spec.includes.map(formatCidr).join()} ${spec.excepts.map(formatCidr).join()}`;
    case 'port':
      return `port ${spec.protocol} ${spec.name}`;
  }
}

/** Text that is equal for equal choices of namespaces. */
export function namespacesKey(namespaces: NamespaceSelector): string {
  if (namespaces.kind === 'named') return `named ${quoted(namespaces.name)}`;
  return `labelled ${selectorKey(namespaces.selector)}`;
}

/** The atom of a spec, with its tests ready. */
export function makeAtom(spec: AtomSpec, number: AtomNumber): Atom {
  switch (spec.kind) {
    case 'pods':
      return { kind: 'pods', number, namespaces: spec.namespaces, pods: spec.pods, ...tests(spec) };
    case 'addresses':
      return { ...spec, number };
    case 'port':
      return { ...spec, number, resolutions: new Map() };
  }
}

const NEVER: LabelTest = () => false;

function tests(spec: PodsPeer): Pick<SelectorAtom, 'namespaceTest' | 'podTest'> {
  const { namespaces } = spec;
  const namespaceTest = namespaces.kind === 'named' ? NEVER : labelTest(namespaces.selector);
  return { namespaceTest, podTest: labelTest(spec.pods) };
}

/** What of an atom identities may have: of a named port, its resolutions. */
export function numbersOf(atom: Atom): readonly AtomNumber[] {
  return atom.kind === 'port' ? [...atom.resolutions.values()] : [atom.number];
}

// Every code that reading manifests and building a world from them can report; docs/errors.md lists them.
import type { Severity } from '#policy/diagnostic.ts';

/** What a code stands for: its severity where it is always the same, and one line for docs/errors.md. */
export type CodeInfo = { readonly severity: Severity; readonly meaning: string };

export type ManifestCode =
  | 'yaml-syntax'
  | 'yaml-duplicate-key'
  | 'yaml-alias'
  | 'yaml-too-large'
  | 'yaml-tag'
  | 'yaml-key'
  | 'yaml-merge'
  | 'file-binary'
  | 'file-unreadable'
  | 'file-none'
  | 'file-stale'
  | 'file-gone'
  | 'not-an-object'
  | 'object-header'
  | 'metadata-field'
  | 'annotation-unheard'
  | 'object-name'
  | 'object-name-unsafe'
  | 'object-label'
  | 'object-duplicate'
  | 'object-field'
  | 'pod-port'
  | 'service-in-part'
  | 'kind-not-understood'
  | 'kind-unknown'
  | 'address-shared'
  | 'addresses-exhausted'
  | 'more-errors'
  | 'more-warnings';

export const MANIFEST_CODES: Readonly<Record<ManifestCode, CodeInfo>> = {
  'yaml-syntax': { severity: 'error', meaning: 'The file is not valid YAML or JSON.' },
  'yaml-duplicate-key': { severity: 'error', meaning: 'A mapping has one key twice.' },
  'yaml-alias': { severity: 'error', meaning: 'An alias names no anchor, or contains itself.' },
  'yaml-too-large': {
    severity: 'error',
    meaning: 'The file, or what its aliases stand for, is larger than Moat reads.',
  },
  'yaml-tag': { severity: 'error', meaning: 'A tag is not understood, or does not fit its value.' },
  'yaml-key': { severity: 'error', meaning: 'A key of a mapping is no text, number or boolean.' },
  'yaml-merge': { severity: 'error', meaning: 'A merge key (`<<`) names something that is no mapping.' },
  'file-binary': { severity: 'error', meaning: 'The file is not text.' },
  'file-unreadable': { severity: 'error', meaning: 'The path is missing, or may not be read.' },
  'file-none': { severity: 'error', meaning: 'A directory holds no manifest.' },
  'file-stale': { severity: 'warning', meaning: 'A watched file can not be used now; its last good objects stay.' },
  'file-gone': { severity: 'warning', meaning: 'A watched file is gone, and its objects with it.' },
  'not-an-object': { severity: 'warning', meaning: 'A document has neither apiVersion nor kind, and is left out.' },
  'object-header': { severity: 'error', meaning: 'apiVersion, kind, name or namespace is missing or is not text.' },
  'metadata-field': { severity: 'error', meaning: 'metadata has no such field.' },
  'annotation-unheard': {
    severity: 'warning',
    meaning: 'An annotation of Moat that is not honoured yet; the policy is enforced.',
  },
  'object-name': { severity: 'warning', meaning: 'Kubernetes would refuse this name or namespace.' },
  'object-name-unsafe': {
    severity: 'error',
    meaning: 'A name or namespace holds characters that could be taken for something else, or is too long.',
  },
  'object-label': { severity: 'warning', meaning: 'Kubernetes would refuse this label.' },
  'object-duplicate': { severity: 'error', meaning: 'The same object stands in two places.' },
  'object-field': { severity: 'error', meaning: 'A field of an object has a wrong type or value.' },
  'pod-port': {
    severity: 'warning',
    meaning: 'A named container port has no usable number or protocol; no policy can mean it.',
  },
  'service-in-part': {
    severity: 'warning',
    meaning: 'A Service asks for something that Moat does not do; the rest of it is served.',
  },
  'kind-not-understood': { severity: 'warning', meaning: 'A kind that Moat does not read; its objects are left out.' },
  'kind-unknown': {
    severity: 'error',
    meaning: 'An API group that Moat reads has no such kind: likely a misspelling.',
  },
  'address-shared': {
    severity: 'error',
    meaning: 'Two running pods, two nodes, or a pod and a node have one address.',
  },
  'addresses-exhausted': { severity: 'error', meaning: 'A node has no free address left for its pods.' },
  'more-errors': { severity: 'error', meaning: 'An object has more than 20 findings, or the input more than 500.' },
  'more-warnings': { severity: 'warning', meaning: 'The same, of warnings alone or beside errors.' },
};

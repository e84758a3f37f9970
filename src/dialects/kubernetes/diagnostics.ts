// Every code that reading a NetworkPolicy can report; docs/errors.md lists them.
import type { Severity } from '#policy/diagnostic.ts';

export type KubernetesCode =
  | 'np-too-large'
  | 'np-unknown-field'
  | 'np-wrong-type'
  | 'np-policy-types'
  | 'np-inert-rules'
  | 'np-null-item'
  | 'np-peer-empty'
  | 'np-peer-mixed'
  | 'np-cidr'
  | 'np-cidr-host-bits'
  | 'np-cidr-mapped'
  | 'np-except'
  | 'np-protocol'
  | 'np-port-range'
  | 'np-port-name'
  | 'np-end-port'
  | 'np-selector-operator'
  | 'np-selector-values'
  | 'np-label-key'
  | 'np-label-value';

/** What a code stands for; a code is an error or a warning, always the same. */
export const KUBERNETES_CODES: Readonly<
  Record<KubernetesCode, { readonly severity: Severity; readonly meaning: string }>
> = {
  'np-too-large': { severity: 'error', meaning: 'The policy has more rules or text than Moat takes.' },
  'np-unknown-field': { severity: 'error', meaning: 'NetworkPolicy has no such field.' },
  'np-wrong-type': { severity: 'error', meaning: 'A field has a value of the wrong type.' },
  'np-policy-types': { severity: 'error', meaning: 'policyTypes holds something other than Ingress and Egress.' },
  'np-inert-rules': { severity: 'warning', meaning: 'Rules stand in a direction that policyTypes leaves out.' },
  'np-null-item': { severity: 'warning', meaning: 'A list item is null; Kubernetes reads it as `{}`.' },
  'np-peer-empty': { severity: 'error', meaning: 'A peer says nothing at all.' },
  'np-peer-mixed': { severity: 'error', meaning: 'A peer has ipBlock and selectors at once.' },
  'np-cidr': { severity: 'error', meaning: 'A CIDR is missing or is not valid.' },
  'np-cidr-host-bits': {
    severity: 'warning',
    meaning: 'A CIDR has host bits set, or leading zeros; they are ignored.',
  },
  'np-cidr-mapped': { severity: 'warning', meaning: 'A CIDR of IPv4-mapped IPv6 addresses matches no packet.' },
  'np-except': { severity: 'error', meaning: 'An exception is not inside its CIDR, or is not smaller than it.' },
  'np-protocol': { severity: 'error', meaning: 'A protocol is not TCP, UDP or SCTP.' },
  'np-port-range': { severity: 'error', meaning: 'A port number is not in 1..65535.' },
  'np-port-name': { severity: 'error', meaning: 'The name of a port is not valid; quoted digits are a name.' },
  'np-end-port': { severity: 'error', meaning: 'endPort is below port, or stands beside no number.' },
  'np-selector-operator': { severity: 'error', meaning: 'A matchExpressions operator is not known.' },
  'np-selector-values': {
    severity: 'error',
    meaning: 'An operator has values and must not, or has none and needs some.',
  },
  'np-label-key': { severity: 'error', meaning: 'The key of a label is not valid.' },
  'np-label-value': { severity: 'error', meaning: 'The value of a label is not valid.' },
};

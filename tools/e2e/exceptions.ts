// Tests of the e2e suite that do not pass, each with its reason. One that begins to pass must leave this table.
import type { Exception } from './judge.ts';

export const EXCEPTIONS: readonly Exception[] = [
  {
    ...{ test: '[Feature:SCTPConnectivity]', state: 'not run', without: 'SCTP' },
    reason: 'this kernel has no SCTP; the conformance suite has crafted packets of it',
  },
];

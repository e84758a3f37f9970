// Tests of the e2e suite that do not pass, each with its reason. One that begins to pass must leave this table.
import type { Exception } from './judge.ts';

/** What is run where nobody chooses. */
export const NETPOL: string = String.raw`\[sig-network\] Netpol `;

const SCTP: Exception = {
  ...{ test: '[Feature:SCTPConnectivity]', state: 'not run', without: 'SCTP' },
  reason: 'this kernel has no SCTP; the conformance suite has crafted packets of it',
};

/** By the focus of a run that has all of these tests. */
export const EXCEPTIONS: Readonly<Record<string, readonly Exception[]>> = {
  [NETPOL]: [SCTP],
  Services: [
    SCTP,
    {
      ...{ test: 'should work after restarting kube-proxy', state: 'skipped' },
      reason: 'it restarts a pod of kube-proxy, and nothing of kube-proxy runs here',
    },
    {
      ...{ test: 'should work after restarting apiserver', state: 'skipped' },
      reason:
        'it restarts a pod of kube-apiserver, which is a process of its own machine here; test/real-cluster.ts kills it',
    },
    {
      ...{ test: 'should function for service endpoints using hostNetwork', state: 'failed', mayPass: true },
      reason:
        'asked from outside, a node serves by no endpoint on its own network; it passes where the client is on the node that it asks',
    },
  ],
};

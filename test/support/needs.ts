// What some tests need of the machine: root, and the outside cases. Such a test says so in its name. Without it the
// test is skipped by name; where CI is set, as in the guests of `make kernels`, it runs and fails instead.
import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** Options for node:test's `test(name, options, fn)`. */
export type Need = { readonly skip: string | false };

const inCi = process.env.CI !== undefined && process.env.CI !== 'false';

/** For tests that make network namespaces or load kernel programs. */
export const needsRoot: Need = unless(process.getuid?.() === 0, 'needs root');

/** For tests on a node that tracks connections, as most do. */
export const needsFirewall: Need = unless(
  ['/usr/sbin/ip6tables', '/sbin/ip6tables'].some((path) => existsSync(path)),
  'needs ip6tables',
);

/** For tests that build the programs, with a fault or as another version. */
export const needsSources: Need = unless(
  existsSync(join(import.meta.dirname, '../../bpf')),
  'needs the sources of the programs',
);

/** The folder of outside cases: beside the checkout, or where MOAT_CASES says. */
export const CASES: string = process.env.MOAT_CASES ?? join(import.meta.dirname, '../../../shared/cases');

/** For tests on cases that Moat did not make. */
export const needsCases: Need = unless(existsSync(CASES), `needs the cases in ${CASES}`);

/** Where tools/kubernetes/build.sh puts Kubernetes' own programs. */
export const KUBERNETES_BIN: string = join(import.meta.dirname, '../../.moat/kubernetes/bin');

/** For tests against a real API server. */
export const needsApiServer: Need = unless(
  existsSync(join(KUBERNETES_BIN, 'kube-apiserver')) && existsSync('/usr/bin/etcd') && existsSync('/usr/bin/etcdctl'),
  'needs kube-apiserver and etcd: make kubernetes',
);

/** The folder of the reference CNI plugins; null where they are not installed. */
export function cniPlugins(): string | null {
  const places = ['/usr/lib/cni', join(import.meta.dirname, '../../.moat/cluster/debian/usr/lib/cni'), '/opt/cni/bin'];
  return places.find((place) => existsSync(join(place, 'bridge'))) ?? null;
}

/** For tests with pods that another CNI plugin attaches. */
export const needsPlugins: Need = unless(
  process.getuid?.() === 0 && cniPlugins() !== null,
  'needs root and the reference CNI plugins (Debian: containernetworking-plugins)',
);

/** For tests with pods that Flannel's CNI plugin attaches. */
export const needsFlannel: Need = unless(
  needsPlugins.skip === false && existsSync(join(KUBERNETES_BIN, 'flannel')),
  "needs root, the reference CNI plugins, and Flannel's: make kubernetes",
);

/** For tests of the chart. */
export const needsHelm: Need = unless(existsSync(join(KUBERNETES_BIN, 'helm')), 'needs helm: sh tools/setup.sh helm');

/** What checks metrics and alerts as Prometheus reads them. */
export const PROMTOOL: string = join(import.meta.dirname, '../../.moat/prometheus/promtool');

export const needsPromtool: Need = unless(existsSync(PROMTOOL), 'needs promtool: make kubernetes');

/** CRDs of the Prometheus operator, a file each. */
export const MONITORING_KINDS: string = join(import.meta.dirname, '../../.moat/prometheus/kinds');

/** For tests of what that operator reads of the chart. */
export const needsMonitoringKinds: Need = unless(
  [needsApiServer, needsHelm].every(({ skip }) => skip === false) && existsSync(MONITORING_KINDS),
  "needs kube-apiserver, helm and the Prometheus operator's kinds: make kubernetes",
);

function unless(met: boolean, reason: string): Need {
  return { skip: met || inCi ? false : reason };
}

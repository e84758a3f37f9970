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

function unless(met: boolean, reason: string): Need {
  return { skip: met || inCi ? false : reason };
}

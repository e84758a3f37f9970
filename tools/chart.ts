// The chart, rendered with its defaults: what deploy/moat.yaml holds, for those without Helm. `make manifest` writes it.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '..');
export const CHART: string = join(ROOT, 'deploy/helm/moat');
const HELM = join(ROOT, '.moat/kubernetes/bin/helm');

const HEAD = `# Moat, as deploy/helm/moat has it with its defaults, in the namespace kube-system: made by \`make manifest\`, not by hand.
# No registry has the image of that name: put in that of yours. docs/install.md says what else to look at.
`;

/** Runs Helm, which asks no cluster; its standard output. Throws with what it said. */
export function helm(args: readonly string[], input = ''): string {
  return execFileSync(HELM, args, { encoding: 'utf8', input, stdio: ['pipe', 'pipe', 'pipe'] });
}

/** The objects of the chart with these values, as YAML. */
export function render(values: Readonly<Record<string, unknown>> = {}): string {
  return helm(['template', 'moat', CHART, '--namespace', 'kube-system', '--values', '-'], JSON.stringify(values));
}

/** deploy/moat.yaml as it should be. Nobody manages it: that label would say that Helm does. */
export function manifest(): string {
  return HEAD + render().replaceAll(/^ *app\.kubernetes\.io\/managed-by: Helm\n/gm, '');
}

if (import.meta.main) process.stdout.write(manifest());

// Builds programs of Kubernetes, its e2e suite, Helm, CoreDNS and others from their Go modules, one after the other: `build.ts
// kube-apiserver helm …`. What was built stays in .moat/kubernetes/bin, under its own name, until go.mod names another version.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';

const FOLDER = import.meta.dirname;

type Module = {
  readonly name: string;
  /** Where its go.mod is. */
  readonly folder: string;
  readonly source: (program: string) => string;
  /** True for a package of tests, which becomes a program that runs them. */
  readonly test?: boolean;
  /** What the linker sets, so that a program knows its version; `kubernetes`: that of Kubernetes. */
  readonly values: (version: string, kubernetes: string) => Readonly<Record<string, string>>;
};

const KUBERNETES: Module = {
  name: 'k8s.io/kubernetes',
  folder: FOLDER,
  source: (program) => `k8s.io/kubernetes/cmd/${program}`,
  values: (version) => {
    const [major, minor] = numbersOf(version);
    const own = { gitVersion: version, gitMajor: major, gitMinor: minor, gitTreeState: 'clean' };
    const entries = VERSION_PACKAGES.flatMap((each) =>
      Object.entries(own).map(([name, value]) => [`${each}.${name}`, value]),
    );
    return Object.fromEntries(entries);
  },
};
/** What the pods of the e2e suite run, of the suite's own version. */
const AGNHOST: Module = {
  ...KUBERNETES,
  source: () => 'k8s.io/kubernetes/test/images/agnhost',
  values: (version) => ({ 'main.Version': version }),
};
/** Those tests of the suite that ./e2e names. */
const SUITE: Module = { ...KUBERNETES, source: () => './e2e', test: true };
/** Runs several of the suite's tests at a time. */
const GINKGO: Module = {
  name: 'github.com/onsi/ginkgo/v2',
  folder: FOLDER,
  source: () => 'github.com/onsi/ginkgo/v2/ginkgo',
  values: () => ({}),
};
const COREDNS: Module = {
  name: 'github.com/coredns/coredns',
  folder: join(FOLDER, '../coredns'),
  source: () => '.',
  values: () => ({}),
};
const HELM: Module = {
  name: 'helm.sh/helm/v3',
  folder: join(FOLDER, '../helm'),
  source: () => 'helm.sh/helm/v3/cmd/helm',
  values: (version, kubernetes) => {
    const [major, minor] = numbersOf(kubernetes);
    // What `helm template` and `helm lint`, which ask no cluster, take its version to be.
    const assumed = ['pkg/chartutil', 'pkg/lint/rules'].map((each) => `helm.sh/helm/v3/${each}.k8sVersion`);
    return {
      'helm.sh/helm/v3/internal/version.version': version,
      ...Object.fromEntries(
        assumed.flatMap((each) => [
          [`${each}Major`, major],
          [`${each}Minor`, minor],
        ]),
      ),
    };
  },
};
/** Flannel's CNI plugin, of the time when it was one of the reference plugins: its own module is not to be had everywhere. */
const FLANNEL: Module = {
  name: 'github.com/containernetworking/plugins',
  folder: join(FOLDER, '../flannel'),
  source: () => 'github.com/containernetworking/plugins/plugins/meta/flannel',
  values: (version) => ({
    'github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion': version,
  }),
};
const PROGRAMS: Readonly<Record<string, Module>> = {
  'kube-apiserver': KUBERNETES,
  'kube-controller-manager': KUBERNETES,
  'kube-scheduler': KUBERNETES,
  'kube-proxy': KUBERNETES,
  kubectl: KUBERNETES,
  kubelet: KUBERNETES,
  agnhost: AGNHOST,
  'e2e.test': SUITE,
  ginkgo: GINKGO,
  coredns: COREDNS,
  helm: HELM,
  flannel: FLANNEL,
};
const BIN = join(FOLDER, '../../.moat/kubernetes/bin');
/** Where Kubernetes keeps the version that it says it is. */
const VERSION_PACKAGES = ['k8s.io/component-base/version', 'k8s.io/client-go/pkg/version'];
/** How a program is asked for its version, where `--version` is not the way. */
const ASKING: Readonly<Record<string, readonly string[]>> = {
  kubectl: ['version', '--client'],
  helm: ['version', '--short'],
  ginkgo: ['version'],
  coredns: ['-version'],
};
const TELL_MS = 10_000;
const ENVIRONMENT = { ...process.env, CGO_ENABLED: '0' };

/** As go.mod has it: `v1.34.4`. */
function wantedVersion({ name, folder }: Module): string {
  const version = readFileSync(join(folder, 'go.mod'), 'utf8')
    .split('\n')
    .map((line) =>
      line
        .replace(/^require /, '')
        .trim()
        .split(' '),
    )
    .find(([module]) => module === name)?.[1];
  if (version === undefined) throw new Error(`go.mod does not name ${name}`);
  return version;
}

/** `v1.34.4`: 1 and 34. */
function numbersOf(version: string): readonly [string, string] {
  const [, major = '', minor = ''] = /^v(\d+)\.(\d+)\./.exec(version) ?? [];
  return [major, minor];
}

/** The version that a program says it is, a CNI plugin on standard error; null where there is none that runs. */
function versionOf(path: string): string | null {
  const name = basename(path).split('.')[0] ?? '';
  const asking = ASKING[name] ?? ['--version'];
  const { stdout, stderr } = spawnSync(path, asking, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  const [, version] = /\bv?(\d+\.\d+\.\d+\S*)/.exec(`${stdout}${stderr}`) ?? [];
  return version === undefined ? null : `v${version}`;
}

async function build(program: string, module: Module): Promise<void> {
  const { source: sourceOf, values, test } = module;
  const version = wantedVersion(module);
  const path = join(BIN, program);
  if (versionOf(path) === version) return say(`${program} ${version} is there`);
  const set = Object.entries(values(version, wantedVersion(KUBERNETES))).map(([name, value]) => `-X ${name}=${value}`);
  const flags = ['-trimpath', '-buildvcs=false', '-ldflags', ['-s', '-w', ...set].join(' ')];
  const source = sourceOf(program);
  // `go test` does not say how far it is: what the tests need is built before them.
  const first = test ? list(module, ['-f', '{{join .TestImports "\\n"}}', source]) : [source];
  const most = list(module, ['-deps', ...first]).length;
  // Under another name until it is whole.
  const partial = `${path}.${process.pid}`;
  const startedMs = performance.now();
  const tell = (compiled: number): void =>
    say(`${program}: compiled ${compiled} of at most ${most} packages, ${seconds(startedMs)} s`);
  try {
    const compiled = await go(module, ['build', '-v', ...flags, ...(test ? [] : ['-o', partial]), ...first], tell);
    if (test) await go(module, ['test', '-c', '-vet=off', ...flags, '-o', partial, source], () => tell(compiled));
    const built = versionOf(partial);
    if (built !== version) throw new Error(`${partial} says that it is ${built ?? 'nothing'}, and not ${version}`);
    renameSync(partial, path);
    say(`${program} ${version}: ${compiled} packages compiled in ${seconds(startedMs)} s`);
  } finally {
    rmSync(partial, { force: true });
  }
}

/** Runs `go` where the module is used; the number of lines that it said, which is told now and then. */
async function go({ folder: cwd }: Module, args: readonly string[], tell: (lines: number) => void): Promise<number> {
  const child = spawn('go', args, { cwd, env: ENVIRONMENT, stdio: ['ignore', 'ignore', 'pipe'] });
  const lines: string[] = [];
  const timer = setInterval(() => tell(lines.length), TELL_MS);
  createInterface({ input: child.stderr }).on('line', (line) => lines.push(line));
  const [code] = await once(child, 'close').finally(() => clearInterval(timer));
  if (code !== 0) throw new Error(`go ${args[0]} ${args.at(-1)} failed:\n${lines.slice(-20).join('\n')}`);
  return lines.length;
}

/** Packages, as `go list` finds them. */
function list({ folder: cwd }: Module, args: readonly string[]): readonly string[] {
  const said = execFileSync('go', ['list', ...args], { cwd, env: ENVIRONMENT, encoding: 'utf8' });
  return said.split('\n').filter((line) => line !== '');
}

function seconds(startedMs: number): number {
  return Math.round((performance.now() - startedMs) / 1000);
}

function say(text: string): void {
  console.error(`moat kubernetes: ${text}`);
}

async function main(programs: readonly string[]): Promise<void> {
  const known = Object.keys(PROGRAMS);
  const unknown = programs.filter((program) => !known.includes(program));
  if (unknown.length > 0 || programs.length === 0) {
    throw new Error(`name programs of ${known.join(', ')}${unknown.length > 0 ? `, not ${unknown.join(', ')}` : ''}`);
  }
  mkdirSync(BIN, { recursive: true });
  // Hours of both CPUs: whoever works beside it goes first.
  setPriority(constants.priority.PRIORITY_LOW);
  for (const program of programs) await build(program, PROGRAMS[program] ?? KUBERNETES);
}

main(process.argv.slice(2)).catch((error: unknown) => {
  say(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
});

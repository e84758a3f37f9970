// `make e2e`: brings the cluster up, runs the NetworkPolicy tests of the Kubernetes e2e suite on it, holds the outcome
// against the table of exceptions, and takes the cluster down. FOCUS, a regular expression, chooses other tests of sig-network.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join, relative } from 'node:path';
import { json, text } from 'node:stream/consumers';
import { nodeNames } from '../cluster/cluster.ts';
import { stop } from '../cluster/commands.ts';
import { Machine } from '../cluster/machine.ts';
import { importImage } from '../cluster/node.ts';
import { KUBECONFIG, KUBECTL, KUBERNETES, ROOT } from '../cluster/places.ts';
import { EXCEPTIONS, NETPOL } from './exceptions.ts';
import { makeAgnhost, writeRegistries } from './image.ts';
import { type Exception, judge, specsOf } from './judge.ts';

const FOLDER = join(ROOT, '.moat/e2e');
const CLUSTER = join(ROOT, 'tools/cluster/run.ts');
/** A test of node ports counts on three. */
const NODES = nodeNames(3);
/** Most of what a test does is waiting. */
const AT_A_TIME = 6;
const LIMIT = '3h';
const begun = performance.now();

function say(text: string): void {
  console.error(`moat e2e: ${((performance.now() - begun) / 1000).toFixed(0).padStart(4)} s  ${text}`);
}

/** Runs a program that speaks for itself; its exit code. */
async function follow(program: string, args: readonly string[]): Promise<number> {
  const child = spawn(program, args, { cwd: ROOT, stdio: ['ignore', 'ignore', 'inherit'] });
  const [code] = (await once(child, 'close')) as [number | null];
  return code ?? 1;
}

/** The exceptions of tests in a focus that hold on this kernel; those of all tests, where the focus is none of the table's. */
async function exceptionsHere(focus: string): Promise<readonly Exception[]> {
  const args = ['connect', '127.0.0.1:9', '--timeout=1s', '--protocol=sctp'];
  const child = spawn(join(KUBERNETES, 'agnhost'), args, { stdio: ['ignore', 'ignore', 'pipe'] });
  const hasSctp = !(await text(child.stderr)).includes('protocol not supported');
  const exceptions = EXCEPTIONS[focus] ?? Object.values(EXCEPTIONS).flat();
  return exceptions.filter(({ without }) => without !== 'SCTP' || !hasSctp);
}

/** Runs the suite, and says each test that ends; the report. Throws where there is none. */
async function runSuite(focus: string, registries: string, leftOut: readonly string[]): Promise<unknown> {
  const progress = createServer(async (request, response) => {
    const { msg } = (await json(request)) as { readonly msg: string };
    response.end();
    if (/^(PASSED|FAILED|SKIPPED) /.test(msg)) say(msg.replace(/^\w+/, (word) => word.toLowerCase().padEnd(7)));
  }).listen(0, '127.0.0.1');
  await once(progress, 'listening');
  const { port } = progress.address() as AddressInfo;
  const log = createWriteStream(join(FOLDER, 'output.log'));
  const args = [
    ...[`--procs=${AT_A_TIME}`, `--timeout=${LIMIT}`, '--no-color', '-v'],
    ...[`--focus=${focus}`, ...leftOut.map((each) => `--skip=${each.replaceAll(/[^\w ]/g, '\\$&')}`)],
    ...[`--output-dir=${FOLDER}`, '--json-report=report.json', join(KUBERNETES, 'e2e.test'), '--'],
    ...[`--kubeconfig=${KUBECONFIG}`, `--kubectl-path=${KUBECTL}`, `--kube-test-repo-list=${registries}`],
    // Only the first of several processes would count them, and the others' tests skip themselves.
    ...[`--num-nodes=${NODES.length}`, '--provider=skeleton'],
    `--progress-report-url=http://127.0.0.1:${port}/`,
  ];
  const child = spawn(join(KUBERNETES, 'ginkgo'), args, {
    ...{ cwd: FOLDER, stdio: ['ignore', 'pipe', 'pipe'], signal: stop.signal },
  });
  child.stdout.pipe(log, { end: false });
  child.stderr.pipe(log, { end: false });
  // Also where it is interrupted: else this process would stay.
  await once(child, 'close').finally(() => progress.close());
  log.end();
  return JSON.parse(readFileSync(join(FOLDER, 'report.json'), 'utf8'));
}

/** True where all is as it should be. */
async function runOnCluster(focus: string): Promise<boolean> {
  const registries = writeRegistries(FOLDER);
  const image = await makeAgnhost(FOLDER, registries);
  for (const name of NODES) await importImage(Machine.open(name), image);
  say(`tests of ${focus}, ${AT_A_TIME} at a time; what they say is in ${relative(process.cwd(), FOLDER)}/output.log`);
  const exceptions = await exceptionsHere(focus);
  const leftOut = exceptions.filter(({ state }) => state === 'not run').map(({ test }) => test);
  const specs = specsOf(await runSuite(focus, registries, leftOut), new RegExp(focus));
  const { passed, excepted, problems } = judge(specs, exceptions, Object.hasOwn(EXCEPTIONS, focus));
  for (const { name, state, exception } of excepted) console.log(`${state}, as expected: ${name}: ${exception.reason}`);
  for (const problem of problems) console.log(problem);
  console.log(`${passed.length} passed, ${problems.length} failed, ${excepted.length} excepted`);
  return problems.length === 0 && passed.length > 0;
}

async function main(): Promise<void> {
  rmSync(FOLDER, { recursive: true, force: true });
  mkdirSync(FOLDER, { recursive: true });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => stop.abort());
  if ((await follow(process.execPath, [CLUSTER, 'up', String(NODES.length)])) !== 0) throw new Error('no cluster');
  try {
    if (!(await runOnCluster(process.env.FOCUS || NETPOL))) process.exitCode = 1;
  } finally {
    await follow(process.execPath, [CLUSTER, 'down']);
  }
}

main().catch((error: unknown) => {
  say(stop.signal.aborted ? 'interrupted' : error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
});

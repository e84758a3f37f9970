// What an agent's process takes while policies, pods and namespaces change, and what its tables take in the kernel.
// Needs root. SECONDS=N of churn (300); LOAD=usual, full or, if named, million.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { WorldEvent } from '#policy/world.ts';
import { type Figures, measureLoads } from './figure.ts';
import { FULL, LOCAL_PODS, Load, MILLION, namespaceEvent, podEvent, policyEvent, USUAL } from './load.ts';
import { BenchNode } from './node.ts';

const LOADS = {
  usual: { size: USUAL, mostMb: 110 },
  full: { size: FULL, mostMb: 200 },
  million: { size: MILLION, mostMb: 240 },
} as const;
const SECONDS = Number(process.env.SECONDS ?? 300);
const EVERY_MS = 50;

/** One change of each kind in turn. */
function churn(load: Load, turn: number): WorldEvent {
  const { selecting, policies, pods } = load.size;
  const version = 1 + (turn % 50);
  const kinds = [
    () => policyEvent(load.selectingPolicy((turn * 13) % selecting, version)),
    () => podEvent(load.remotePod((turn * 977) % pods, turn % 10)),
    () => policyEvent(load.otherPolicy((turn * 31) % policies, version)),
    () => podEvent(load.localPod(turn % LOCAL_PODS, version)),
    () => policyEvent(load.workloadPolicy(turn % 100, version)),
    () => namespaceEvent(load.namespace(turn % 500, turn % 20)),
  ];
  const kind = kinds[turn % kinds.length];
  if (kind === undefined) throw new Error('there is a change for each turn');
  return kind();
}

/** Resident megabytes: the peak of all, and now of the kernel's tables that the process has mapped. */
function resident(pid: number): { readonly peakMb: number; readonly mappedMb: number } {
  const peak = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  let mapped = 0;
  let isTable = false;
  for (const line of readFileSync(`/proc/${pid}/smaps`, 'utf8').split('\n')) {
    if (/^[0-9a-f]+-/.test(line)) isTable = line.includes('bpf-map') || line.includes('bpf_ringbuf');
    else if (isTable && line.startsWith('Rss:')) mapped += Number(line.replace(/\D+/g, ''));
  }
  return { peakMb: (Number(peak) * 1024) / 1e6, mappedMb: (mapped * 1024) / 1e6 };
}

/** The kernel tells the peak from now on (proc(5), clear_refs 5), so that a start's is not told as the churn's. */
function forgetPeak(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, '5');
}

/** Megabytes that the kernel counts for the maps that a process has open. */
function mapsMb(pid: number): number {
  const bytes = new Map<string, number>();
  for (const descriptor of readdirSync(`/proc/${pid}/fdinfo`)) {
    const text = readFileSync(`/proc/${pid}/fdinfo/${descriptor}`, 'utf8');
    const [, memory] = /^memlock:\s+(\d+)$/m.exec(text) ?? [];
    const [, map] = /^map_id:\s+(\d+)$/m.exec(text) ?? [];
    if (memory !== undefined && map !== undefined) bytes.set(map, Number(memory));
  }
  return [...bytes.values()].reduce((sum, one) => sum + one, 0) / 1e6;
}

async function measure(figures: Figures, name: keyof typeof LOADS): Promise<void> {
  process.stderr.write(`bench: memory at the ${name} load, ${SECONDS} s\n`);
  const load = new Load(LOADS[name].size);
  const node = await BenchNode.start(`m${name}${process.pid}`, load);
  try {
    const print = (what: string, value: number, most: number | null): void => {
      const bar = most === null ? {} : { bar: { most } };
      const figure = { name: `${what}, ${name} load`, value: Math.round(value), unit: 'MB', ...bar };
      figures.print({ ...figure, baseline: null, ratio: null });
    };
    print('agent resident at its peak until the list is in force, without mapped tables', own(node.agentPid), null);
    forgetPeak(node.agentPid);
    print('agent resident after the list, without mapped tables', own(node.agentPid), null);
    const endMs = performance.now() + SECONDS * 1000;
    for (let turn = 0; performance.now() < endMs; turn++) {
      await node.change([churn(load, turn)]);
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    }
    print('agent resident at its peak under churn, without mapped tables', own(node.agentPid), LOADS[name].mostMb);
    print('tables of the kernel that the agent has mapped', resident(node.agentPid).mappedMb, null);
    print('kernel memory of all maps', mapsMb(node.agentPid), null);
  } finally {
    await node.down();
  }
}

function own(pid: number): number {
  const { peakMb, mappedMb } = resident(pid);
  return peakMb - mappedMb;
}

await measureLoads(['usual', 'full', 'million'], measure);

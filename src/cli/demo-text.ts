// The demo's stages as text for people.
import type { World } from '#policy/world.ts';
import type { ProbeRow } from '#sandbox/probe-judge.ts';
import type { Denied, DeniedPlace } from './demo-denied.ts';
import type { Cut } from './demo-live.ts';
import { legend, matrixText } from './matrix.ts';
import { outputWidth, styled } from './output.ts';
import { groupIn } from './probe-output.ts';

/** A heading with a rule under it. */
export function stage(title: string): string {
  return `\n${styled('bold', title)}\n${styled('dim', '─'.repeat(Math.min(outputWidth(), title.length)))}`;
}

/** `24 pods of 17 workloads in 5 namespaces on 2 nodes; 25 policies`. */
export function worldText(world: World): string {
  const pods = [...world.pods.values()];
  const workloads = new Set(pods.map(({ workload }) => `${workload.namespace}/${workload.kind}/${workload.name}`));
  const namespaces = new Set(pods.map(({ namespace }) => namespace));
  const parts = [
    count(pods.length, 'pod'),
    `of ${count(workloads.size, 'workload')}`,
    `in ${count(namespaces.size, 'namespace')}`,
    `on ${count(world.nodes.size, 'node')}`,
  ];
  return `${parts.join(' ')}; ${world.policies.size === 1 ? '1 policy' : `${world.policies.size} policies`}`;
}

/** Who reaches whom. */
export function squareText(rows: readonly ProbeRow[], world: World): string {
  const allowed = rows.filter(({ verdict }) => verdict === 'allow').length;
  const denied = rows.length - allowed;
  const sum = `${rows.length} connections tried by real packets: ${allowed} arrived, ${denied} dropped in the kernel`;
  return [matrixText(rows, { width: outputWidth(), groupOf: groupIn(world) }), '', legend(), sum].join('\n');
}

/** The live edit, told. */
export function cutText(cut: Cut): string {
  const { from, to, port, file, line, rule, answeredBefore } = cut;
  const milliseconds = (value: number): string => styled('bold', `${value.toFixed(1)} ms`);
  return [
    `open: ${from} → ${to} ${port}/TCP, ${answeredBefore} messages there and back`,
    `edit: rule ${rule} is taken out`,
    `      ${styled('dim', place({ file, line }))}`,
    `${styled('red', '✘')} cut: ${milliseconds(cut.writeToFirstPacketMs)} from writing the file to the first packet dropped`,
    ...(cut.deniedBy === null ? [] : [`  ${whyText(cut.deniedBy)}`, ...placeLines(cut.places)]),
    `${styled('green', '✔')} undone: ${milliseconds(cut.undoneMs)} from writing it back to a new connection's first answer`,
  ].join('\n');
}

/** Each denied connection with the rule that the kernel's event named. */
export function deniedText(denied: readonly Denied[]): string {
  return denied
    .map((each) => {
      const { from, to, port, protocol, decidedBy } = each;
      const heading = `${styled('red', '✘')} ${from} → ${to} ${port}/${protocol}`;
      const end = decidedBy === 'egress' ? 'leaving the sender' : 'entering the receiver';
      return [`${heading}: dropped ${end}`, `  ${whyText(each.rule)}`, ...placeLines(each.places)].join('\n');
    })
    .join('\n');
}

/** A default deny's id names its first policies, which stand below anyway. */
function whyText(rule: string): string {
  return rule.startsWith('default-deny/') ? 'isolated by these, and no rule allows it:' : `by ${rule}:`;
}

function placeLines(places: readonly DeniedPlace[]): readonly string[] {
  return places.map(({ object, file, line }) => `    ${object}  ${styled('dim', place({ file, line }))}`);
}

function place({ file, line }: Pick<DeniedPlace, 'file' | 'line'>): string {
  if (file === null) return '';
  return line === null ? file : `${file}:${line}`;
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}

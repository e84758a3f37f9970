// Reach as a graph for other tools: Graphviz DOT and Mermaid. Names come from input, so they are quoted.
import { rowText } from '#analyze/connections.ts';
import type { ReachRow } from '#analyze/reach.ts';

/** A directed graph with one edge for each row, labelled with its connections. */
export function reachDot(rows: readonly ReachRow[]): string {
  const edges = rows.map(
    ({ from, to, connections, audited }) =>
      `  ${dotText(from)} -> ${dotText(to)} [label=${dotText(rowText(connections, audited))}];`,
  );
  return ['digraph reach {', '  rankdir=LR;', '  node [shape=box];', ...edges, '}'].join('\n');
}

/** A flowchart with a node for each name, since Mermaid's ids hold neither slashes nor brackets. */
export function reachMermaid(rows: readonly ReachRow[]): string {
  const ids = new Map(
    [...new Set(rows.flatMap(({ from, to }) => [from, to]))].map((name, index) => [name, `n${index}`]),
  );
  const nodes = [...ids].map(([name, id]) => `  ${id}["${mermaidText(name)}"]`);
  const edges = rows.map(
    ({ from, to, connections, audited }) =>
      `  ${ids.get(from)} -->|"${mermaidText(rowText(connections, audited))}"| ${ids.get(to)}`,
  );
  return ['flowchart LR', ...nodes, ...edges].join('\n');
}

function dotText(text: string): string {
  return `"${text.replace(/[\\"]/g, '\\$&')}"`;
}

function mermaidText(text: string): string {
  return text.replace(/[&<>"#;]/g, (character) => `#${character.codePointAt(0)};`);
}

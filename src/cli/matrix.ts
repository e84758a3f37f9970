// Who reaches whom as a square of marks: a row for each source, a column for each destination, both numbered alike.
import type { Direction } from '#policy/model.ts';
import type { Verdict } from '#policy/verdict.ts';
import { styled } from './output.ts';

/** What a cell says: one verdict, several that differ, or nothing asked (an end and itself). */
type Mark = Verdict | 'audit' | 'mixed' | 'none';

/** One connection that was tried. */
export type Tried = {
  readonly from: string;
  readonly to: string;
  readonly verdict: Verdict;
  /** Set where it passes by audit alone. */
  readonly audited?: Direction;
};

/** How to draw: columns of the terminal, and the name that an end is grouped under if single ends do not fit. */
export type MatrixStyle = { readonly width: number; readonly groupOf: (end: string) => string };

const MARKS: Readonly<Record<Mark, { readonly sign: string; readonly format: Parameters<typeof styled>[0] }>> = {
  allow: { sign: '✔', format: 'green' },
  deny: { sign: '✘', format: 'red' },
  reject: { sign: '⊘', format: 'magenta' },
  audit: { sign: '▲', format: 'yellow' },
  mixed: { sign: '◐', format: 'yellow' },
  none: { sign: '·', format: 'dim' },
};

/** A cell takes a sign and a space; a row begins with its number and its name. */
const CELL_WIDTH = 2;
const MIN_LABEL_WIDTH = 16;
const MAX_LABEL_WIDTH = 40;

/** The square as text. Ends keep the order in which they first appear; many are grouped; a wide one goes on below. */
export function matrixText(tried: readonly Tried[], style: MatrixStyle): string {
  const ends = endsOf(tried);
  const grouped = MIN_LABEL_WIDTH + ends.length * CELL_WIDTH > style.width;
  const rename = grouped ? style.groupOf : (end: string): string => end;
  const names = [...new Set(ends.map(rename))];
  const marks = marksOf(tried, rename);
  const labelWidth = labelWidthFor(names, style.width);
  const perBlock = Math.max(1, Math.floor((style.width - labelWidth) / CELL_WIDTH));
  const blocks: string[] = [];
  for (let start = 0; start < names.length; start += perBlock) {
    blocks.push(
      blockText({ names, marks, labelWidth, columns: range(start, Math.min(start + perBlock, names.length)) }),
    );
  }
  return blocks.join('\n\n');
}

/** What the signs mean, on one line. */
export function legend(hasAudits = false): string {
  const meaning: readonly (readonly [Mark, string])[] = [
    ['allow', 'allowed'],
    ['deny', 'denied'],
    ['reject', 'rejected'],
    ...(hasAudits ? ([['audit', 'allowed by audit alone']] as const) : []),
    ['mixed', 'some pods or ports'],
  ];
  return `row → column: ${meaning.map(([mark, text]) => `${sign(mark)} ${text}`).join('  ')}`;
}

function endsOf(tried: readonly Tried[]): readonly string[] {
  return [...new Set([...tried.map(({ from }) => from), ...tried.map(({ to }) => to)])];
}

function marksOf(tried: readonly Tried[], rename: (end: string) => string): ReadonlyMap<string, Mark> {
  const marks = new Map<string, Mark>();
  for (const { from, to, verdict, audited } of tried) {
    const key = cellKey(rename(from), rename(to));
    const known = marks.get(key);
    const mark = audited === undefined ? verdict : 'audit';
    marks.set(key, known === undefined || known === mark ? mark : 'mixed');
  }
  return marks;
}

function cellKey(from: string, to: string): string {
  return `${from}\n${to}`;
}

/** Names get what the cells leave, within reason. */
function labelWidthFor(names: readonly string[], width: number): number {
  const longest = Math.max(...names.map((name) => name.length)) + numberWidth(names) + 3;
  const left = width - names.length * CELL_WIDTH;
  return Math.min(longest, Math.max(MIN_LABEL_WIDTH, Math.min(left, MAX_LABEL_WIDTH)));
}

type Block = {
  readonly names: readonly string[];
  readonly marks: ReadonlyMap<string, Mark>;
  readonly labelWidth: number;
  readonly columns: readonly number[];
};

function blockText(block: Block): string {
  return [...headerLines(block), ...block.names.map((_, row) => rowText(block, row))].join('\n');
}

/** Column numbers stand upright: hundreds, tens, ones. */
function headerLines({ names, labelWidth, columns }: Block): readonly string[] {
  const digits = numberWidth(names);
  return range(0, digits).map((place) => {
    const cells = columns.map((column) =>
      String(column + 1)
        .padStart(digits)
        .charAt(place),
    );
    return styled('dim', `${' '.repeat(labelWidth)}${cells.join(' ')}`.trimEnd());
  });
}

function rowText({ names, marks, labelWidth, columns }: Block, row: number): string {
  const from = names[row] ?? '';
  const number = String(row + 1).padStart(numberWidth(names));
  const label = `${number} ${shorten(from, labelWidth - number.length - 3)}`.padEnd(labelWidth);
  const cells = columns.map((column) => sign(marks.get(cellKey(from, names[column] ?? '')) ?? 'none'));
  return `${label}${cells.join(' ')}`;
}

/** The middle of a long name goes: its namespace and its last characters tell most. */
function shorten(name: string, width: number): string {
  if (name.length <= width) return name;
  const tail = Math.floor((width - 1) / 2);
  return `${name.slice(0, width - 1 - tail)}…${name.slice(name.length - tail)}`;
}

function sign(mark: Mark): string {
  return styled(MARKS[mark].format, MARKS[mark].sign);
}

function numberWidth(names: readonly string[]): number {
  return String(names.length).length;
}

function range(start: number, end: number): readonly number[] {
  return Array.from({ length: Math.max(0, end - start) }, (_, i) => start + i);
}

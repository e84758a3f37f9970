// Tables for people, no wider than the terminal.
import type Table from 'cli-table3';

const NO_LINES = Object.fromEntries(
  [
    'top top-mid top-left top-right bottom bottom-mid bottom-left bottom-right',
    'left left-mid mid mid-mid right right-mid middle',
  ]
    .join(' ')
    .split(' ')
    .map((name) => [name, name === 'middle' ? '  ' : '']),
);

/** Rows under a head, in columns; long cells wrap. The library is loaded only where a table is printed. */
export async function tableText(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  width: number,
): Promise<string> {
  const { default: CliTable } = await import('cli-table3');
  const colWidths = columnWidths([head, ...rows], width);
  const options: Table.TableConstructorOptions = {
    head: [...head],
    colWidths,
    wordWrap: true,
    chars: NO_LINES,
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [], compact: true },
  };
  const table = new CliTable(options);
  table.push(...rows.map((row) => row.map((cell, column) => breakable(cell, colWidths[column] ?? 1))));
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}

/** What each column needs; where that is too much, the widest columns give way. */
function columnWidths(rows: readonly (readonly string[])[], width: number): number[] {
  const columns = rows[0]?.length ?? 0;
  const widths = Array.from({ length: columns }, (_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  const room = width - 2 * (columns - 1);
  for (let excess = sum(widths) - room; excess > 0; excess--) {
    const widest = widths.indexOf(Math.max(...widths));
    widths[widest] = (widths[widest] ?? 1) - 1;
  }
  return widths;
}

/** Words longer than their column in pieces that fit, by preference after a dot: the library breaks at spaces alone, and would cut them short. */
function breakable(cell: string, width: number): string {
  const piece = `\\S{${Math.floor(width / 2)},${width - 1}}\\.|\\S{${width}}`;
  return cell.replaceAll(new RegExp(`(?=\\S{${width + 1}})(?:${piece})`, 'g'), '$& ');
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

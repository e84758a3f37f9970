// A terminal's output as a picture: reads text with colours on stdin, writes SVG. The README's picture is made so:
//   script -qec './moat demo --once' /dev/null | node tools/terminal-svg.ts 'With its policies' > docs/demo.svg
// The argument is the first line to show.
import { readFileSync } from 'node:fs';

type Style = { readonly bold: boolean; readonly dim: boolean; readonly colour: string };
type Span = { readonly text: string; readonly style: Style };

const PLAIN: Style = { bold: false, dim: false, colour: '#d6dbe1' };
const COLOURS: Readonly<Record<number, string>> = {
  31: '#f2777a',
  32: '#8fce6b',
  33: '#f0c674',
  35: '#c792ea',
  39: PLAIN.colour,
};
const CELL = { width: 8.4, height: 19 };
const MARGIN = 18;
const ESCAPE = '\u001b';

function restyle(style: Style, code: number): Style {
  if (code === 0) return PLAIN;
  if (code === 1) return { ...style, bold: true };
  if (code === 2) return { ...style, dim: true };
  if (code === 22) return { ...style, bold: false, dim: false };
  const colour = COLOURS[code];
  return colour === undefined ? style : { ...style, colour };
}

/** One line's runs of equal style. Escape sequences other than colours are dropped. */
function spansOf(line: string): readonly Span[] {
  let style = PLAIN;
  const spans: Span[] = [];
  for (const [index, piece] of line.split(`${ESCAPE}[`).entries()) {
    const match = index === 0 ? null : /^([\d;]*)([A-Za-z])/.exec(piece);
    if (match?.[2] === 'm') for (const code of (match[1] || '0').split(';')) style = restyle(style, Number(code));
    const text = match === null ? piece : piece.slice(match[0].length);
    if (text !== '') spans.push({ text, style });
  }
  return spans;
}

function escaped(text: string): string {
  return text.replace(/[&<>]/g, (character) => `&#${character.codePointAt(0)};`);
}

/** Each span stands at its own column, so that a font with other widths keeps the table straight. */
function lineSvg(line: string, row: number): string {
  let column = 0;
  return spansOf(line)
    .map(({ text, style }) => {
      const x = MARGIN + column * CELL.width;
      const y = MARGIN + (row + 1) * CELL.height;
      const length = [...text].length;
      column += length;
      const weight = style.bold ? ' font-weight="bold"' : '';
      const opacity = style.dim ? ' opacity="0.55"' : '';
      const place = `x="${x.toFixed(1)}" y="${y}" textLength="${(length * CELL.width).toFixed(1)}"`;
      return `<text ${place} fill="${style.colour}"${weight}${opacity} xml:space="preserve">${escaped(text)}</text>`;
    })
    .join('');
}

function svg(lines: readonly string[]): string {
  const columns = Math.max(...lines.map((line) => spansOf(line).reduce((sum, { text }) => sum + [...text].length, 0)));
  const width = Math.ceil(columns * CELL.width + 2 * MARGIN);
  const height = Math.ceil((lines.length + 1) * CELL.height + 2 * MARGIN);
  const font =
    'font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="14"';
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">`,
    '<title>Moat in a terminal</title>',
    `<rect width="100%" height="100%" rx="8" fill="#1d2229"/>`,
    `<g ${font}>`,
    ...lines.map(lineSvg).filter((line) => line !== ''),
    '</g>',
    '</svg>',
  ].join('\n');
}

// A progress bar draws over its line: what was drawn last stays.
const input = readFileSync(0, 'utf8')
  .split('\n')
  .map((line) => line.replace(/\r$/, '').replace(/^.*\r/, ''));
const first = input.findIndex((line) => line.includes(process.argv[2] ?? ''));
console.log(svg(input.slice(Math.max(first, 0))));

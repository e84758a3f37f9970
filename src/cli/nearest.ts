// Which known names somebody may have meant by one that is not known.

const MOST = 3;

/** The known names that the fewest typing mistakes make of it, by name; none where that would be many. */
export function nearest(meant: string, known: readonly string[]): readonly string[] {
  const limit = Math.max(2, Math.floor(meant.length / 4));
  const measured = known.map((name) => ({ name, edits: edits(meant, name) }));
  const least = Math.min(limit, ...measured.map((each) => each.edits));
  const near = measured.filter((each) => each.edits === least).map(({ name }) => name);
  return near.sort().slice(0, MOST);
}

/** How many characters must be put in, taken out or replaced to make one of the other (Levenshtein's distance). */
function edits(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (const [index, character] of [...a].entries()) {
    const next = [index + 1];
    for (let column = 1; column <= b.length; column++) {
      const replaced = (row[column - 1] ?? 0) + (b[column - 1] === character ? 0 : 1);
      next.push(Math.min(replaced, (row[column] ?? 0) + 1, (next[column - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

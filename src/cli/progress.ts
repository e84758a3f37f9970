// A progress bar on stderr, where that is a terminal; nothing elsewhere.

const WIDTH = 40;
const LEAST_MS = 50;

/** Draws over one line: call with what is done and of how much; `end` wipes it. */
export type Progress = { readonly show: (done: number, total: number) => void; readonly end: () => void };

export function progressBar(title: string): Progress {
  if (!process.stderr.isTTY) return { show: () => undefined, end: () => undefined };
  let drawnMs = 0;
  const show = (done: number, total: number): void => {
    const now = performance.now();
    if (now - drawnMs < LEAST_MS && done < total) return;
    drawnMs = now;
    const filled = total === 0 ? WIDTH : Math.round((done / total) * WIDTH);
    const bar = `${'━'.repeat(filled)}${' '.repeat(WIDTH - filled)}`;
    process.stderr.write(`\r${title} ${bar} ${done}/${total}`);
  };
  return { show, end: () => process.stderr.write('\r\x1b[K') };
}

// What `moat install --check` finds, one subject at a time.

/** `lacking`: Moat does not work without it. `warning`: it works, and somebody should know. `unknown`: it could not be found out. */
export type FindingStatus = 'ok' | 'warning' | 'lacking' | 'unknown';

export type Finding = {
  readonly part: 'cluster' | 'node';
  readonly subject: string;
  readonly status: FindingStatus;
  /** What is there. */
  readonly found: string;
  /** What follows from it, and what to do; '' where nothing does. */
  readonly meaning: string;
};

/** Makes findings of one part. */
export function findingOf(part: Finding['part']) {
  return (subject: string, status: FindingStatus, found: string, meaning = ''): Finding => ({
    ...{ part, subject, status, found, meaning },
  });
}

/** Names, the first few of many. */
export function someOf(names: readonly string[], shown = 5): string {
  const more = names.length - shown;
  return `${names.slice(0, shown).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

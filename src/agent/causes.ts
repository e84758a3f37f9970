/** What an error says, and all that led to it. */
export function causesOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? `${error.message}: ${causesOf(error.cause)}` : error.message;
}

// What is served over HTTP, whoever serves it.
export type Page = { readonly status: number; readonly type: string; readonly text: string };

/** Makes the page of a path, as it is now. */
export type Pages = ReadonlyMap<string, (query: URLSearchParams) => Page | Promise<Page>>;

/** Text for people. */
export const PLAIN = 'text/plain; charset=utf-8';

// Lists of an API server, page by page.
import { type Fields, fieldsOf } from '#policy/fields.ts';
import { AnswerTooLarge } from './retry.ts';

/** How a list is asked for, and what becomes of it. */
export type Paging = {
  /** Objects of one page. */
  readonly pageSize: number;
  /** Answers the query of a page. */
  readonly ask: (query: string) => Promise<unknown>;
  /** Gets each object as its page arrives. */
  readonly take: (item: unknown) => void;
};

/** No store holds so many pages: a server that always has one more is broken, and would be asked for ever. */
const MOST_PAGES = 100_000;

/**
 * Lists everything. Returns the store's version that all pages are of. Throws where an answer is no list. A page that is
 * too large is asked for in smaller ones: whoever makes two hundred huge objects keeps no agent from listing.
 */
export async function listPages({ pageSize, ask, take }: Paging): Promise<string> {
  let limit = pageSize;
  let next = '';
  let version = '';
  for (let pages = 1; ; pages++) {
    if (pages > MOST_PAGES) throw new Error(`the list has no end: ${MOST_PAGES} pages, and there are more`);
    const page = await askPage(ask, limit, next);
    if (page === null) {
      limit = Math.floor(limit / 2);
      continue;
    }
    const { resourceVersion, continue: more } = fieldsOf(page.metadata);
    // A list without items is null in JSON. Where there are none at all, it is no list.
    const items = page.items === null ? [] : page.items;
    if (!Array.isArray(items) || typeof resourceVersion !== 'string' || resourceVersion === '') {
      throw new Error('the answer is no list');
    }
    if (version !== '' && resourceVersion !== version) {
      throw new Error(`the pages are of the versions ${version} and ${resourceVersion}`);
    }
    for (const item of items) take(item);
    if (typeof more !== 'string' || more === '') return resourceVersion;
    if (more === next) throw new Error('the list has no end: a page is followed by itself');
    next = more;
    version = resourceVersion;
  }
}

/** Null where it is too large, and may be smaller. */
async function askPage(ask: Paging['ask'], limit: number, next: string): Promise<Fields | null> {
  const query = new URLSearchParams({ limit: String(limit) });
  if (next !== '') query.set('continue', next);
  try {
    return fieldsOf(await ask(String(query)));
  } catch (error) {
    if (error instanceof AnswerTooLarge && limit > 1) return null;
    throw error;
  }
}

// A stream of YAML or JSON → its documents, each parsed on its own, so that one mistake does not hide the others.
import { type Event, parseEvents, YAMLException } from 'js-yaml';
import type { ManifestCode } from './diagnostics.ts';
import { buildTrees, type Tree, TreeError } from './tree.ts';

/** What is wrong with a document, and where. */
export type DocumentError = { readonly code: ManifestCode; readonly line: number; readonly message: string };

/** A document that can't be read. `text`: as it was written; '' where the whole file was not looked into. */
export type BrokenDocument = DocumentError & { readonly text: string };

export type Documents = { readonly trees: readonly Tree[]; readonly errors: readonly BrokenDocument[] };

/** Deep enough for every schema that people write, small enough for the stack. */
const MAX_DEPTH = 200;

/** Larger texts are refused before they are parsed. */
const MAX_LENGTH = 64 * 1024 * 1024;

/**
 * A value, key or line costs the reader some hundred bytes, and has one of these characters beside it. Ten thousand policies
 * have a few hundred thousand.
 */
const MAX_MARKS = 4 << 20;
const MARKS: ReadonlySet<number> = new Set([...',:[]{}\n'].map((mark) => mark.charCodeAt(0)));

/** The documents of a file. Empty ones, and ones that hold comments alone, have a null value. */
export function parseDocuments(text: string): Documents {
  if (text.length > MAX_LENGTH) return refused('yaml-too-large', 1, 'the file has more than 64 MiB');
  if (hasTooManyMarks(text)) {
    return refused('yaml-too-large', 1, `the file has more than ${MAX_MARKS} lines, fields and items`);
  }
  const binary = binaryLine(text);
  if (binary !== null) return refused('file-binary', binary, 'the file holds bytes that no text has');
  const trees: Tree[] = [];
  const errors: BrokenDocument[] = [];
  for (const chunk of splitDocuments(text)) {
    try {
      const { events, source } = parseLeniently(chunk.text);
      for (const tree of buildTrees(events, { source, firstLine: chunk.line })) trees.push(tree);
    } catch (error) {
      errors.push({ ...documentError(error, chunk), text: chunk.text });
    }
  }
  return { trees, errors };
}

/** A file that is not looked into. */
function refused(code: ManifestCode, line: number, message: string): Documents {
  return { trees: [], errors: [{ code, line, message, text: '' }] };
}

function hasTooManyMarks(text: string): boolean {
  let marks = 0;
  for (let at = 0; at < text.length && marks <= MAX_MARKS; at++) if (MARKS.has(text.charCodeAt(at))) marks++;
  return marks > MAX_MARKS;
}

type Chunk = { readonly text: string; readonly line: number };

/** Cuts a stream before each `---` line, as kubectl does; such a line never stands inside a YAML value. */
function splitDocuments(text: string): Chunk[] {
  const chunks: Chunk[] = [];
  let start = 0;
  let line = 1;
  for (const match of text.matchAll(/^---(?=[ \t\r\n]|$)/gm)) {
    const chunk = text.slice(start, match.index);
    // A directive (`%YAML 1.2`) belongs to the document after its `---`.
    if (/^%/m.test(chunk) && /^(\uFEFF?[ \t]*([%#].*)?\r?\n)*$/.test(chunk)) continue;
    if (chunk !== '') chunks.push({ text: chunk, line });
    line += countLines(chunk);
    start = match.index;
  }
  chunks.push({ text: text.slice(start), line });
  return chunks;
}

function countLines(text: string): number {
  let count = 0;
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) count++;
  return count;
}

type ParsedText = { readonly events: Event[]; readonly source: string };

/** How much text is parsed again, all in all, for the sake of lines that are not indented enough. */
const REPAIR_BUDGET = 16 * 1024 * 1024;

/**
 * Lines inside brackets or quotes need no indentation for kubectl's parser, and may begin with tabs; js-yaml refuses
 * both. Such a line gets more spaces in front, which changes neither its value nor its number.
 */
function parseLeniently(text: string): ParsedText {
  let source = text;
  for (let spent = 0; ; spent += source.length) {
    try {
      return { events: parseEvents(source, { maxDepth: MAX_DEPTH }), source };
    } catch (error) {
      const repaired = spent < REPAIR_BUDGET ? repairIndentation(source, error) : null;
      if (repaired === null) throw error;
      source = repaired;
    }
  }
}

function repairIndentation(source: string, error: unknown): string | null {
  if (!(error instanceof YAMLException) || error.reason !== 'deficient indentation') return null;
  const position = error.mark?.position ?? 0;
  const start = source.lastIndexOf('\n', position - 1) + 1;
  const body = source.slice(start).search(/[^ \t]/) + start;
  if (body < start || source.slice(start, body) === REPAIRED) return null;
  return source.slice(0, start) + REPAIRED + source.slice(body);
}

/** Deeper than any real mapping stands. */
const REPAIRED = ' '.repeat(256);

/** The first line with a NUL or another byte that is no text (U+FFFD stands for what was no UTF-8); null for text. */
function binaryLine(text: string): number | null {
  const at = text.search(BINARY);
  return at < 0 ? null : countLines(text.slice(0, at)) + 1;
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it looks for.
const BINARY = /[\0-\x08\x0e-\x1a\x1c-\x1f\ufffd]/;

function documentError(error: unknown, chunk: Chunk): DocumentError {
  if (error instanceof TreeError) return { code: error.code, line: error.line, message: error.message };
  if (error instanceof YAMLException) {
    const line = error.mark === undefined ? chunk.line : chunk.line + error.mark.line;
    return { code: 'yaml-syntax', line, message: error.reason };
  }
  // The reader's regular expressions run out of stack on a tag of megabytes.
  if (error instanceof RangeError) {
    return {
      code: 'yaml-too-large',
      line: chunk.line,
      message: 'the document has a token too long for the YAML reader',
    };
  }
  throw error;
}

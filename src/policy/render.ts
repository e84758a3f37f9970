// A diagnostic as text for people: one line that says what and where, one that says what to do.
import type { Diagnostic } from './diagnostic.ts';

/**
 * `file:line: error: NetworkPolicy shop/web: spec.ingress[0].ports[0].port: found … [code]`, and the hint below it.
 * Control characters of the input are shown as escapes: a manifest must not drive the terminal.
 */
export function renderDiagnostic(diagnostic: Diagnostic): string {
  const { file, line, severity, object, path, message, hint, code } = diagnostic;
  const place = file === null ? [] : [line === null ? file : `${file}:${line}`];
  const parts = [...place, severity, object, path, message].filter((part) => part !== '');
  const text = `${parts.join(': ')} [${code}]`;
  return hint === '' ? plain(text) : `${plain(text)}\n  ${plain(hint)}`;
}

function plain(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it replaces.
  return text.replaceAll(/[\0-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}

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

/** The text with everything escaped that a terminal would obey or not show: control, format and separator characters. */
export function plain(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (character) => {
    const code = (character.codePointAt(0) ?? 0).toString(16);
    return code.length <= 4 ? `\\u${code.padStart(4, '0')}` : `\\u{${code}}`;
  });
}

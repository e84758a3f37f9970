// Manifests for a command: reads them, says what is wrong with them, and refuses what is invalid.
import { isInvalid, type Loaded, loadManifests } from '#cluster/load.ts';
import type { Diagnostic } from '#policy/diagnostic.ts';
import { renderDiagnostic } from '#policy/render.ts';
import { CommandError } from './errors.ts';
import type { InputOptions } from './options.ts';
import { jsonText } from './output.ts';

/**
 * Reads what `-f` names. Every diagnostic goes to stderr; an error among them ends the command, unless
 * `--lenient`, and so does input that holds nothing at all.
 */
export function readInput(options: InputOptions & { readonly output: string }): Loaded {
  const loaded = loadManifests(options.filename);
  printDiagnostics(loaded.diagnostics, options.output);
  if (isInvalid(loaded.diagnostics) && !options.lenient) {
    const errors = loaded.diagnostics.filter(({ severity }) => severity === 'error');
    const isAll = errors.every(({ code }) => code !== 'more-errors');
    const count = isAll
      ? `${errors.length} ${errors.length === 1 ? 'error' : 'errors'}`
      : `more than ${errors.length} errors`;
    throw new CommandError(options.output === 'json' ? '' : `${count}, no result`);
  }
  if (loaded.objects.length === 0) throw new CommandError(`there is no object in ${options.filename.join(', ')}`);
  return loaded;
}

/** On stderr: one JSON document where the result is JSON, else two lines each. */
export function printDiagnostics(diagnostics: readonly Diagnostic[], output: string): void {
  if (diagnostics.length === 0) return;
  const text = output === 'json' ? jsonText({ diagnostics }) : diagnostics.map(renderDiagnostic).join('\n');
  process.stderr.write(`${text}\n`);
}

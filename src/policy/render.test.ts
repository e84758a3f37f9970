// Diagnostics as text: place first, nothing left out, nothing that drives a terminal.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Diagnostic } from './diagnostic.ts';
import { renderDiagnostic } from './render.ts';

const FULL: Diagnostic = {
  code: 'np-port-range',
  severity: 'error',
  object: 'NetworkPolicy shop/web',
  path: 'spec.ingress[0].ports[0].port',
  file: 'web.yaml',
  line: 7,
  message: '0 is no port number',
  hint: 'Use a whole number from 1 to 65535.',
};

const RENDERED: readonly (readonly [Partial<Diagnostic>, string])[] = [
  [
    {},
    'web.yaml:7: error: NetworkPolicy shop/web: spec.ingress[0].ports[0].port: 0 is no port number [np-port-range]\n  Use a whole number from 1 to 65535.',
  ],
  [{ line: null, object: '', path: '', hint: '' }, 'web.yaml: error: 0 is no port number [np-port-range]'],
  [
    { file: null, line: null, severity: 'warning', path: '', hint: '' },
    'warning: NetworkPolicy shop/web: 0 is no port number [np-port-range]',
  ],
  [
    { path: '', object: '', hint: '', message: 'a\u001b[2J\nb\u202e' },
    'web.yaml:7: error: a\\u001b[2J\\u000ab\\u202e [np-port-range]',
  ],
];

for (const [change, text] of RENDERED) {
  test(`a diagnostic reads: ${JSON.stringify(text.slice(0, 60))}`, () => {
    assert.equal(renderDiagnostic({ ...FULL, ...change }), text);
  });
}

// Credentials: kubeconfig files and a pod's own, each read again for each request.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { inCluster } from './connection.ts';
import { fromKubeconfig, readKubeconfig } from './kubeconfig.ts';

type Parts = { readonly user?: object; readonly cluster?: object; readonly rest?: object };

function config({ user = { token: 't' }, cluster = {}, rest = {} }: Parts): unknown {
  return {
    'current-context': 'x',
    contexts: [
      { name: 'y', context: { cluster: 'none', user: 'none' } },
      { name: 'x', context: { cluster: 'c', user: 'u' } },
    ],
    clusters: [{ name: 'c', cluster: { server: 'https://api.example:6443/under', ...cluster } }],
    users: [{ name: 'u', user }],
    ...rest,
  };
}

const base64 = (text: string): string => Buffer.from(text).toString('base64');

test('a kubeconfig gives server, authority, certificate and key, inline', () => {
  const user = { 'client-certificate-data': base64('CERT'), 'client-key-data': base64('KEY') };
  const cluster = { 'certificate-authority-data': base64('CA'), 'tls-server-name': 'name' };
  const { server, ...rest } = readKubeconfig(config({ user, cluster }), '/k');
  assert.equal(server.href, 'https://api.example:6443/under');
  assert.deepEqual(rest, { ca: 'CA', cert: 'CERT', key: 'KEY', servername: 'name', token: undefined });
});

test('files that a kubeconfig names lie beside it, and are read again each time; so is the file itself', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'moat-kubeconfig-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const write = (name: string, text: string): void => writeFileSync(join(folder, name), text);
  write('ca.pem', 'CA');
  write('token', 'first\n');
  write(
    'config',
    JSON.stringify(
      config({ user: { tokenFile: 'token', token: 'not this' }, cluster: { 'certificate-authority': 'ca.pem' } }),
    ),
  );
  const connect = await fromKubeconfig(join(folder, 'config'));
  assert.deepEqual([connect().ca, connect().token], ['CA', 'first']);
  write('token', 'second\n');
  assert.equal(connect().token, 'second');
  write('config', JSON.stringify(config({ user: { token: 'third' } })));
  assert.equal(connect().token, 'third');
});

const REFUSED: readonly (readonly [what: string, parts: Parts, message: RegExp])[] = [
  [
    'a program for credentials',
    { user: { exec: { command: 'aws' } } },
    /^\/k: exec is not supported: an agent runs no programs/,
  ],
  ['a provider', { user: { 'auth-provider': { name: 'gcp' } } }, /^\/k: auth-provider is not supported/],
  ['a password', { user: { username: 'a', password: 'b' } }, /^\/k: username is not supported/],
  [
    'a server that nobody checks',
    { cluster: { 'insecure-skip-tls-verify': true } },
    /^\/k: insecure-skip-tls-verify is not supported: whoever/,
  ],
  ['a proxy', { cluster: { 'proxy-url': 'http://p' } }, /^\/k: proxy-url is not supported/],
  [
    'a server without TLS',
    { cluster: { server: 'http://a' } },
    /^\/k: the server is "http:\/\/a", and https:\/\/HOST:PORT is expected/,
  ],
  ['a certificate without a key', { user: { 'client-certificate-data': base64('C') } }, /one of them is missing/],
  ['a context that is not there', { rest: { 'current-context': 'z' } }, /^\/k: contexts has no entry named "z"/],
  ['no contexts', { rest: { contexts: 'x' } }, /^\/k: contexts has no entry named "x"/],
  ['a user that is not there', { rest: { users: [] } }, /^\/k: users has no entry named "u"/],
];

for (const [what, parts, message] of REFUSED) {
  test(`a kubeconfig with ${what} is refused by name`, () => {
    assert.throws(() => readKubeconfig(config(parts), '/k'), { message });
  });
}

test('a check that is not switched off may be spelt out', () => {
  assert.equal(readKubeconfig(config({ cluster: { 'insecure-skip-tls-verify': false } }), '/k').token, 't');
});

test("a pod takes the server from its environment and its account's files, each time anew", (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'moat-account-'));
  t.after(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'ca.crt'), 'CA');
  writeFileSync(join(folder, 'token'), 'one');
  const connect = inCluster({ KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '6443' }, folder);
  assert.deepEqual([connect().server.href, connect().ca, connect().token], ['https://[fd00::1]:6443/', 'CA', 'one']);
  writeFileSync(join(folder, 'token'), 'two');
  assert.equal(connect().token, 'two');
  assert.throws(() => inCluster({}, folder), /KUBERNETES_SERVICE_HOST is not set: this is no pod of a cluster/);
});

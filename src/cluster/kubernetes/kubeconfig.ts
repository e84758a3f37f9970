// Kubeconfig files: the cluster and the user of the current context, as far as a daemon can use them.
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { type Fields, fieldsOf, isAbsent, itemsOf } from '#policy/fields.ts';
import type { Connect, Connection } from './connection.ts';

/** Fields of a user with which nobody could say what would be run, or who would be asked, on a node. */
const REFUSED_USER: Readonly<Record<string, string>> = {
  exec: 'an agent runs no programs to get credentials',
  'auth-provider': 'Kubernetes has no such providers any more',
  username: 'API servers take no passwords any more',
  as: 'an agent acts for nobody else',
};
const REFUSED_CLUSTER: Readonly<Record<string, string>> = {
  'insecure-skip-tls-verify': 'whoever answered in the place of the API server would decide what is let through',
  'proxy-url': 'an agent speaks to its API server without a proxy',
};

/** The connection that a file describes; the file is read again for each request. Throws where it can't be used. */
export async function fromKubeconfig(path: string): Promise<Connect> {
  // Agents in a cluster need no YAML.
  const { load } = await import('js-yaml');
  const connect = (): Connection => readKubeconfig(load(readFileSync(path, 'utf8')), path);
  connect();
  return connect;
}

/** Reads a kubeconfig's content. Paths in it are relative to the file's folder. Throws with the field that is at fault. */
export function readKubeconfig(content: unknown, path: string): Connection {
  const context = named({ content, path }, 'context', textOf(fieldsOf(content)['current-context']));
  const cluster = named({ content, path }, 'cluster', textOf(context.cluster));
  const user = isAbsent(context.user) ? {} : named({ content, path }, 'user', textOf(context.user));
  refuse(cluster, REFUSED_CLUSTER, path);
  refuse(user, REFUSED_USER, path);
  const read = (file: string): string => readFileSync(resolve(dirname(path), file), 'utf8');
  const cert = pemOf(user, 'client-certificate', read);
  const key = pemOf(user, 'client-key', read);
  if ((cert === undefined) !== (key === undefined)) {
    throw new Error(`${path}: a client certificate and its key go together, and one of them is missing`);
  }
  // As kubectl has it: the file wins.
  const token = textOf(user.tokenFile) ? read(textOf(user.tokenFile)).trim() : textOf(user.token);
  return {
    server: readServer(cluster.server, path),
    ...{ ca: pemOf(cluster, 'certificate-authority', read), cert, key },
    ...{ servername: textOf(cluster['tls-server-name']) || undefined, token: token || undefined },
  };
}

type Kubeconfig = { readonly content: unknown; readonly path: string };

/** An entry of a list of named ones: `clusters: [{name: x, cluster: {…}}]`. */
function named({ content, path }: Kubeconfig, field: 'context' | 'cluster' | 'user', name: string): Fields {
  const entries = itemsOf(fieldsOf(content)[`${field}s`]).map(fieldsOf);
  const found = entries.find((entry) => entry.name === name);
  if (found === undefined) throw new Error(`${path}: ${field}s has no entry named "${name}"`);
  return fieldsOf(found[field]);
}

function refuse(fields: Fields, refused: Readonly<Record<string, string>>, path: string): void {
  for (const [field, why] of Object.entries(refused)) {
    if (!isAbsent(fields[field]) && fields[field] !== false)
      throw new Error(`${path}: ${field} is not supported: ${why}`);
  }
}

function readServer(value: unknown, path: string): URL {
  const server = URL.parse(textOf(value));
  if (server?.protocol === 'https:') return server;
  throw new Error(`${path}: the server is "${textOf(value)}", and https://HOST:PORT is expected`);
}

/** `x-data` in base64, else the file `x` names. */
function pemOf(fields: Fields, name: string, read: (file: string) => string): string | undefined {
  const data = textOf(fields[`${name}-data`]);
  if (data !== '') return Buffer.from(data, 'base64').toString('utf8');
  const file = textOf(fields[name]);
  return file === '' ? undefined : read(file);
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

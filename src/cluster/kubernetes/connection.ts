// Where an API server is and how an agent proves who it is. Credentials are read anew for each request: they rotate.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export type Connection = {
  /** `https:`, with the path that everything else is under. */
  readonly server: URL;
  /** PEM; undefined = what Node trusts. */
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
  /** The name that the server's certificate must have, where it is not the host's. */
  readonly servername?: string | undefined;
  readonly token?: string | undefined;
};

/** Reads what is needed for the next request. Throws where it can't be read. */
export type Connect = () => Connection;

const ACCOUNT_FOLDER = '/var/run/secrets/kubernetes.io/serviceaccount';

/** As Kubernetes tells every pod: the server by its environment, the account's token and the authority by files. */
export function inCluster(environment: NodeJS.ProcessEnv = process.env, folder: string = ACCOUNT_FOLDER): Connect {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port = '443' } = environment;
  if (!host) {
    throw new Error(
      'KUBERNETES_SERVICE_HOST is not set: this is no pod of a cluster; name a kubeconfig with --kubeconfig',
    );
  }
  const server = new URL(`https://${host.includes(':') ? `[${host}]` : host}:${port}`);
  return () => ({
    server,
    ca: readFileSync(join(folder, 'ca.crt'), 'utf8'),
    token: readFileSync(join(folder, 'token'), 'utf8').trim(),
  });
}

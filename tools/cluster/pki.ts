// Certificates of the control plane and of everyone who speaks to it, by openssl: one authority for all of them.
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './commands.ts';

const DAYS = '365';
const CURVE = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

export class Authority {
  readonly folder: string;

  private constructor(folder: string) {
    this.folder = folder;
  }

  static async create(folder: string): Promise<Authority> {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const files = ['-keyout', join(folder, 'ca.key'), '-out', join(folder, 'ca.crt')];
    await run('openssl', ['req', '-x509', ...CURVE, ...files, '-days', DAYS, '-subj', '/CN=moat-cluster']);
    await run('openssl', ['genrsa', '-out', join(folder, 'accounts.key'), '2048']);
    return new Authority(folder);
  }

  /** Makes NAME.key and NAME.crt in the folder. `names`: a server's, as subjectAltName has them. */
  async issue(name: string, user: string, group: string | null, names = ''): Promise<void> {
    const path = (end: string): string => join(this.folder, `${name}.${end}`);
    const subject = `${group === null ? '' : `/O=${group}`}/CN=${user}`;
    await run('openssl', ['req', ...CURVE, '-keyout', path('key'), '-out', path('csr'), '-subj', subject]);
    const use = names === '' ? 'clientAuth' : `serverAuth\nsubjectAltName=${names}`;
    writeFileSync(path('ext'), `extendedKeyUsage=${use}\n`);
    // Not counted up in a file: nodes get theirs at the same time.
    const serial = `0x${randomBytes(16).toString('hex')}`;
    const by = ['-CA', join(this.folder, 'ca.crt'), '-CAkey', join(this.folder, 'ca.key'), '-set_serial', serial];
    const files = ['-in', path('csr'), '-extfile', path('ext'), '-out', path('crt')];
    await run('openssl', ['x509', '-req', ...files, ...by, '-days', DAYS]);
  }

  /** A kubeconfig, whole in one file, of a user that has a certificate here. */
  kubeconfig(name: string, server: string): string {
    const data = (file: string): string => readFileSync(join(this.folder, file)).toString('base64');
    const user = { 'client-certificate-data': data(`${name}.crt`), 'client-key-data': data(`${name}.key`) };
    const config = {
      ...{ apiVersion: 'v1', kind: 'Config', 'current-context': 'moat-cluster' },
      contexts: [{ name: 'moat-cluster', context: { cluster: 'moat-cluster', user: name } }],
      clusters: [{ name: 'moat-cluster', cluster: { server, 'certificate-authority-data': data('ca.crt') } }],
      users: [{ name, user }],
    };
    return `${JSON.stringify(config, null, 2)}\n`;
  }
}

// A node whose pods another CNI plugin attaches, with Moat's chained behind it: what a container runtime does with such a list.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setSysctls } from '#network/sysctl.ts';
import { CniBed } from './cni-bed.ts';
import { cniPlugins, KUBERNETES_BIN } from './needs.ts';
import type { CniResult } from './node-bed.ts';

type Fields = Readonly<Record<string, unknown>>;

/** A bridge with addresses of both families, and the node as its gateway, as the reference plugin makes it. */
export const BRIDGE: Fields = {
  ...{ type: 'bridge', bridge: 'cni0', isGateway: true, isDefaultGateway: true, ipMasq: false, hairpinMode: true },
  ipam: { type: 'host-local', ranges: [[{ subnet: '10.88.0.0/24' }], [{ subnet: 'fd88::/64' }]] },
};

export class ChainBed extends CniBed {
  readonly #first: Fields;

  /** `first`: the plugin before Moat's; it may have files in the bed's folder. */
  constructor(name: string, first: Fields | ((folder: string) => Fields), blocks?: readonly string[]) {
    super(name, blocks);
    const dataDir = join(this.folder, 'ipam');
    mkdirSync(dataDir);
    const own = typeof first === 'function' ? first(this.folder) : first;
    // The latest that Debian's plugins know.
    this.#first = { cniVersion: '1.0.0', name: 'pods', ...own, ipam: { ...(own.ipam as Fields), dataDir } };
  }

  override get config(): Fields {
    return { ...super.config, chained: true };
  }

  /** ADD of the first plugin: its result. The pod's namespace is made. */
  addFirst(container: string): Fields {
    if (!existsSync(this.netns(container))) this.addNetns(container);
    const result = this.callFirst('ADD', container);
    assert.ok(result, `${container} has a result`);
    return result;
  }

  /** Calls the first plugin inside the node; null where it says nothing. */
  callFirst(command: string, container: string, prevResult?: Fields): Fields | null {
    const plugins = cniPlugins();
    assert.ok(plugins);
    const folders = [KUBERNETES_BIN, plugins];
    const program = folders.map((each) => join(each, String(this.#first.type))).find((path) => existsSync(path));
    assert.ok(program);
    const about = { CNI_CONTAINERID: container, CNI_NETNS: this.netns(container), CNI_IFNAME: 'eth0' };
    const env = { PATH: process.env.PATH, CNI_COMMAND: command, CNI_PATH: folders.join(':'), ...about };
    const input = JSON.stringify({ ...this.#first, ...(prevResult === undefined ? {} : { prevResult }) });
    const args = [`--net=${this.netns('node')}`, program];
    const { status, stdout } = spawnSync('nsenter', args, { env, input, encoding: 'utf8' });
    assert.equal(status, 0, stdout);
    return stdout === '' ? null : JSON.parse(stdout);
  }

  /** A call of Moat's plugin, behind the first. */
  async callSecond(command: string, container: string, pod: string, prevResult?: Fields): Promise<CniResult> {
    const { cniVersion } = this.#first;
    const config = { cniVersion, ...(prevResult === undefined ? {} : { prevResult }) };
    return await this.call({ command, container, netns: this.netns(container), pod, config });
  }

  /** ADD of both, which must succeed; container and pod have one name. What the first said, and its addresses. */
  async addBoth(name: string): Promise<{ readonly result: Fields; readonly addresses: readonly string[] }> {
    const result = this.addFirst(name);
    const { exit, output } = await this.callSecond('ADD', name, name, result);
    assert.equal(exit, 0, JSON.stringify(output));
    assert.deepEqual(output, result, 'passed on as it was');
    const ips = result.ips as readonly { readonly address: string }[];
    return { result, addresses: ips.map(({ address }) => address.split('/')[0] ?? '') };
  }

  /** A fresh namespace for a container, as a runtime makes one when it starts its pod again. */
  remake(name: string): void {
    execFileSync('ip', ['netns', 'del', `${this.prefix}-${name}`]);
    execFileSync('ip', ['netns', 'add', `${this.prefix}-${name}`]);
  }

  /** A setting of the node. */
  sysctl(path: string, value: string): void {
    setSysctls(this.netns('node'), [[path.replace('net/', ''), value]]);
  }

  /** What is on the node that is not Moat's, as text: links, addresses, routes, rules. Their queues apart, where Moat's filters hang. */
  others(): string {
    const asked = ['link show', 'addr show', 'route show', '-6 route show', 'rule show'];
    const shown = asked.map((args) => this.ip('node', args));
    return [...shown, rules(this.netns('node'))]
      .join('\n')
      .replaceAll(/valid_lft .*|expires \S+|qdisc \w+|qlen \d+/g, '')
      .replaceAll(/\s+$/gm, '');
  }
}

function rules(netns: string): string {
  if (!existsSync('/usr/sbin/nft')) return '';
  return execFileSync('nsenter', [`--net=${netns}`, '/usr/sbin/nft', 'list', 'ruleset'], { encoding: 'utf8' });
}

// Other engines' rules, put in force by their own tools: ipset, iptables-restore, nft.
import { spawnSync } from 'node:child_process';
import { formatAddress } from '#net/address.ts';
import { hostInterface } from '#sandbox/names.ts';
import type { NodeNetns } from '#sandbox/network.ts';
import type { BenchNetwork } from '../network.ts';
import type { Enforcer, Running } from '../sides.ts';
import type { BenchWorld } from '../worlds.ts';
import { type ListedPolicy, type LocalPod, listPolicies } from './listed.ts';
import { nftablesRules } from './nftables.ts';
import type { RuleText } from './rule-text.ts';

type Write<Text> = (policies: readonly ListedPolicy[], pods: readonly LocalPod[]) => Text;

/** Of the two tools of one name: rules go to nf_tables, or to the older tables. */
export type Backend = 'nft' | 'legacy';

/**
 * Rules of iptables and sets of ipset. On the client's node alone, as all that follow: of peers, packets are measured on
 * one node, and ten thousand policies take these tools more than a minute.
 */
export function iptablesEnforcer(write: Write<RuleText>, backend: Backend): Enforcer {
  return enforcer(write, (node, { sets, rules }) => {
    for (const part of sets) runIn(node, ['ipset', 'restore'], part);
    runIn(node, [`iptables-${backend}-restore`], rules);
  });
}

/** One nftables table. */
export const enforceNftables: Enforcer = enforcer(nftablesRules, (node, text) => runIn(node, ['nft', '-f', '-'], text));

function enforcer<Text>(write: Write<Text>, load: (node: NodeNetns, text: Text) => void): Enforcer {
  return (_instance: string, net: BenchNetwork, { world, measured }: BenchWorld): Promise<Running> => {
    const [node] = net.nodes;
    if (node !== undefined) load(node, write(listPolicies(world, measured), localPods(net, node)));
    // What was loaded goes with the namespace.
    return Promise.resolve({ memoryMb: () => Promise.resolve(null), down: () => Promise.resolve() });
  };
}

function localPods(net: BenchNetwork, node: NodeNetns): readonly LocalPod[] {
  const local = net.pods.filter((pod) => pod.node === node);
  return local.flatMap(({ key, index, addresses: [own] }) => {
    return own === undefined ? [] : [{ key, address: formatAddress(own), interfaceName: hostInterface(index) }];
  });
}

function runIn(node: NodeNetns, command: readonly string[], input: string): void {
  const args = ['netns', 'exec', node.netns, ...command];
  const { status, stderr, error } = spawnSync('ip', args, { input, encoding: 'utf8', maxBuffer: 1 << 28 });
  if (status !== 0) throw new Error(`${command.join(' ')}: ${error?.message ?? stderr.slice(0, 400)}`);
}

// Rules in the shape of kube-router's iptables chains (v2.9, without its default-deny option), from our own policies:
//
//   FORWARD → KUBE-ROUTER-FORWARD → for each local pod, by destination and by source: its chain
//   pod chain: common chain (invalid: drop; established: accept; ICMP) → from its own node: accept → a jump for each
//              policy → no policy's mark: reject → set the mark of what passed
//   policy chain: for each rule and port two rules (set the mark; return where it is set), matching two sets
//   end: accept what has the mark of a pod's chain
//
// One set for the pods of each policy and direction, one for each rule's pods, one for each rule's blocks. Nothing
// leaves the list of policies early, so the place of the one that matches makes no difference.
import type { ListedPolicy, ListedRule, LocalPod } from './listed.ts';
import { FilterTable, type RuleText, SetList, shortName } from './rule-text.ts';

const FORWARD = 'KUBE-ROUTER-FORWARD';
const COMMON = 'KUBE-NWPLCY-COMMON';
const TAIL = 'KUBE-NWPLCY-TAIL';
const HOSTS = 'hash:ip timeout 0';
const NETS = 'hash:net timeout 0';
const TIMEOUT = ' timeout 0';
const ALLOWED = '0x10000/0x10000';
const PASSED = '0x20000/0x20000';

export function kubeRouterRules(policies: readonly ListedPolicy[], pods: readonly LocalPod[]): RuleText {
  const sets = new SetList();
  const table = new FilterTable();
  table.rule('FORWARD', `-m comment --comment "netpol" -j ${FORWARD}`);
  writeCommon(table);
  for (const policy of policies) writePolicy(policy, sets, table);
  for (const pod of pods) writePod(pod, policies, table);
  table.rule(TAIL, `-m mark --mark ${PASSED} -j ACCEPT`);
  table.rule(FORWARD, `-j ${TAIL}`);
  table.rule(FORWARD, `-m mark --mark ${PASSED} -j ACCEPT`);
  return { sets: sets.text, rules: table.text };
}

function writeCommon(table: FilterTable): void {
  table.rule(COMMON, '-m conntrack --ctstate INVALID -j DROP');
  table.rule(COMMON, '-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT');
  for (const type of ['echo-request', 'destination-unreachable', 'time-exceeded']) {
    table.rule(COMMON, `-p icmp -m icmp --icmp-type ${type} -j ACCEPT`);
  }
}

function writePolicy(policy: ListedPolicy, sets: SetList, table: FilterTable): void {
  const chain = policyChain(policy);
  table.chain(chain);
  const target = (kind: string): string => {
    return sets.add(`KUBE-${kind}-${shortName(`${policy.name}/${kind}`)}`, HOSTS, policy.targets.addresses, TIMEOUT);
  };
  const destinations = target('DST');
  for (const [index, rule] of policy.ingress.entries()) {
    for (const peers of peerSets(rule, `${policy.name}/ingress/${index}`, sets)) {
      writeRule({ chain, from: peers, to: destinations, rule }, table);
    }
  }
  const sources = target('SRC');
  for (const [index, rule] of policy.egress.entries()) {
    for (const peers of peerSets(rule, `${policy.name}/egress/${index}`, sets)) {
      writeRule({ chain, from: sources, to: peers, rule }, table);
    }
  }
}

/** The rule's pods together, and its blocks together. */
function peerSets({ members, blocks }: ListedRule, name: string, sets: SetList): readonly string[] {
  const hosts = members.flatMap(({ addresses }) => addresses);
  const made: string[] = [];
  if (hosts.length > 0) made.push(sets.add(`KUBE-PODS-${shortName(name)}`, HOSTS, hosts, TIMEOUT));
  if (blocks.length > 0) made.push(sets.add(`KUBE-NETS-${shortName(name)}`, NETS, blocks, TIMEOUT));
  return made;
}

type Written = { readonly chain: string; readonly from: string; readonly to: string; readonly rule: ListedRule };

function writeRule({ chain, from, to, rule }: Written, table: FilterTable): void {
  for (const { protocol, first, last } of rule.ports) {
    const matched = `-m set --match-set ${from} src -m set --match-set ${to} dst -p ${protocol} --dport ${first}:${last}`;
    table.rule(chain, `-m comment --comment "allow traffic" ${matched} -j MARK --set-xmark ${ALLOWED}`);
    table.rule(chain, `-m comment --comment "allow traffic" ${matched} -m mark --mark ${ALLOWED} -j RETURN`);
  }
}

function writePod(pod: LocalPod, policies: readonly ListedPolicy[], table: FilterTable): void {
  const chain = `KUBE-POD-FW-${shortName(pod.key)}`;
  table.rule(chain, `-m comment --comment "common netpol rules" -j ${COMMON}`);
  table.rule(chain, `-m addrtype --src-type LOCAL -d ${pod.address} -j ACCEPT`);
  for (const policy of policies.toReversed()) {
    table.rule(chain, `-m comment --comment "run through policy" -j ${policyChain(policy)}`);
  }
  const refused = `-m mark ! --mark ${ALLOWED}`;
  table.rule(chain, `${refused} -m limit --limit 10/minute --limit-burst 10 -j NFLOG --nflog-group 100`);
  table.rule(chain, `${refused} -j REJECT`);
  table.rule(chain, '-j MARK --set-mark 0/0x10000');
  table.rule(chain, `-m comment --comment "set netpol-ok mark" -j MARK --set-mark ${PASSED}`);
  for (const side of ['-d', '-s']) {
    table.rule(FORWARD, `-m comment --comment "pod" ${side} ${pod.address} -j ${chain}`);
    table.rule(FORWARD, `-m physdev --physdev-is-bridged ${side} ${pod.address} -j ${chain}`);
  }
}

function policyChain(policy: ListedPolicy): string {
  return `KUBE-NWPLCY-${shortName(policy.name)}`;
}

// Rules in the shape of Calico's iptables chains (felix, v3.32), the filter table alone, from our own policies:
//
//   FORWARD → cali-FORWARD → by the interface it came from: that endpoint's chain; by the one it goes to: that one's
//   endpoint chain: established: accept; invalid: drop; encapsulated (from a pod): drop; policies; else drop
//   policies of one selector share a chain: a jump for each, and every fifth time a return where one has decided
//   policy chain: a rule for each peer and protocol sets the mark, the next returns where it is set
//
// One set for each selector, shared by all rules that name it. Calico's raw, mangle and nat tables are left out: every
// packet would pay for them as well.
import type { ListedPolicy, ListedRule, LocalPod, PortRange } from './listed.ts';
import { FilterTable, type RuleText, SetList, shortName } from './rule-text.ts';

const ACCEPT = '0x10000/0x10000';
const NO_ACCEPT = '0x0/0x10000';
const NO_PASS = '0x0/0x20000';
const NO_VERDICT = '0x0/0x30000';
/** Rules between two looks at whether something has decided. */
const STRIDE = 5;
const SET_TYPE = 'hash:net family inet maxelem 1048576';

type Direction = 'ingress' | 'egress';

export function calicoRules(policies: readonly ListedPolicy[], pods: readonly LocalPod[]): RuleText {
  const sets = new SetList();
  const table = new FilterTable();
  writeForward(table);
  writeDispatch(pods, table);
  for (const direction of ['ingress', 'egress'] as const) {
    for (const policy of policies) writePolicy(policy, direction, { sets, table });
    writeGroup(policies, direction, table);
    for (const pod of pods) writeEndpoint(pod, direction, table);
  }
  return { sets: sets.text, rules: table.text };
}

function writeForward(table: FilterTable): void {
  const chain = 'cali-FORWARD';
  table.rule('FORWARD', `-j ${chain}`);
  for (const empty of ['cali-from-hep-forward', 'cali-to-hep-forward', 'cali-cidr-block']) table.chain(empty);
  table.rule(chain, '-j MARK --set-xmark 0x0/0xe0000');
  table.rule(chain, `-m mark --mark ${NO_ACCEPT} -j cali-from-hep-forward`);
  table.rule(chain, '-i p+ -j cali-from-wl-dispatch');
  table.rule(chain, '-o p+ -j cali-to-wl-dispatch');
  table.rule(chain, '-j cali-to-hep-forward');
  table.rule(chain, '-j cali-cidr-block');
  table.rule('FORWARD', `-m mark --mark ${ACCEPT} -j ACCEPT`);
  table.rule('FORWARD', `-j MARK --set-xmark ${ACCEPT}`);
}

/** A rule for each interface: with so few, none shares the first character after the common prefix with another. */
function writeDispatch(pods: readonly LocalPod[], table: FilterTable): void {
  for (const { interfaceName } of pods) {
    table.rule('cali-from-wl-dispatch', `-i ${interfaceName} -g cali-fw-${interfaceName}`);
    table.rule('cali-to-wl-dispatch', `-o ${interfaceName} -g cali-tw-${interfaceName}`);
  }
  for (const chain of ['cali-from-wl-dispatch', 'cali-to-wl-dispatch']) {
    table.rule(chain, '-m comment --comment "Unknown interface" -j DROP');
  }
}

function writeEndpoint({ interfaceName }: LocalPod, direction: Direction, table: FilterTable): void {
  const chain = `${direction === 'egress' ? 'cali-fw-' : 'cali-tw-'}${interfaceName}`;
  table.rule(chain, '-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT');
  table.rule(chain, '-m conntrack --ctstate INVALID -j DROP');
  table.rule(chain, `-j MARK --set-xmark ${NO_VERDICT}`);
  if (direction === 'egress') {
    table.rule(chain, '-p udp -m multiport --dports 4789 -j DROP');
    table.rule(chain, '-p 4 -j DROP');
  }
  table.rule(chain, `-m comment --comment "Start of tier default" -j MARK --set-xmark ${NO_PASS}`);
  table.rule(chain, `-m mark --mark ${NO_PASS} -j ${groupChain(direction)}`);
  table.rule(chain, `-m mark --mark ${ACCEPT} -j RETURN`);
  table.rule(chain, `-m mark --mark ${NO_PASS} -j DROP`);
  table.rule(chain, '-m comment --comment "Drop if no profiles matched" -j DROP');
}

function writeGroup(policies: readonly ListedPolicy[], direction: Direction, table: FilterTable): void {
  const chain = groupChain(direction);
  for (const [index, policy] of policies.entries()) {
    const first = index % STRIDE === 0;
    if (first && index > 0) table.rule(chain, `-m mark ! --mark ${NO_VERDICT} -j RETURN`);
    table.rule(chain, `${first ? '' : `-m mark --mark ${NO_VERDICT} `}-j ${policyChain(policy, direction)}`);
  }
}

type Writers = { readonly sets: SetList; readonly table: FilterTable };

function writePolicy(policy: ListedPolicy, direction: Direction, { sets, table }: Writers): void {
  const chain = policyChain(policy, direction);
  table.chain(chain);
  const matches = policy[direction].flatMap((rule) => ruleMatches(rule, direction, sets));
  for (const [index, match] of matches.entries()) {
    table.rule(chain, `${match} -j MARK --set-xmark ${ACCEPT}`);
    if (index < matches.length - 1) table.rule(chain, `-m mark --mark ${ACCEPT} -j RETURN`);
  }
}

function ruleMatches({ members, blocks, ports }: ListedRule, direction: Direction, sets: SetList): readonly string[] {
  const [side, flag] = direction === 'ingress' ? (['src', '-s'] as const) : (['dst', '-d'] as const);
  const peers = [
    ...members.map(({ key, addresses }) => {
      const name = sets.add(`cali40s:${shortName(key, 22)}`, SET_TYPE, addresses);
      return `-m set --match-set ${name} ${side}`;
    }),
    ...blocks.map((block) => `${flag} ${block}`),
  ];
  return peers.flatMap((peer) => {
    return [...Map.groupBy(ports, (port) => port.protocol)].map(
      ([protocol, of]) => `-p ${protocol} ${peer} ${multiport(of)}`,
    );
  });
}

/** A range counts as two of the 15 that one match can hold. */
function multiport(ports: readonly PortRange[]): string {
  if (2 * ports.length > 15) throw new Error('more ports than one rule can match');
  return `-m multiport --dports ${ports.map(({ first, last }) => (first === last ? first : `${first}:${last}`)).join(',')}`;
}

function groupChain(direction: Direction): string {
  return `cali-g${direction === 'ingress' ? 'i' : 'o'}-${shortName('everything')}`;
}

function policyChain(policy: ListedPolicy, direction: Direction): string {
  return `cali-p${direction === 'ingress' ? 'i' : 'o'}-${shortName(policy.name)}`;
}

// What nftables can do for these policies when it is asked to do it in one look-up: a verdict map by interface, then one
// set of (peer, protocol, port) for each direction. No engine that we know of writes its rules so; it is the strongest
// peer that the kernel's own filter has to offer.
import type { ListedPolicy, ListedRule, LocalPod } from './listed.ts';

type Direction = 'ingress' | 'egress';
type Range = { readonly first: number; readonly last: number };

/** The text that `nft -f` reads. */
export function nftablesRules(policies: readonly ListedPolicy[], pods: readonly LocalPod[]): string {
  const chains = (['egress', 'ingress'] as const).map((direction) => {
    const address = direction === 'egress' ? 'daddr' : 'saddr';
    return `
  set ${direction} {
    type ipv4_addr . inet_proto . inet_service
    flags interval
    elements = { ${elements(policies, direction).join(', ')} }
  }
  chain ${direction} {
    ip ${address} . meta l4proto . th dport @${direction} return
    drop
  }`;
  });
  const dispatch = (direction: Direction): string => {
    return pods.map(({ interfaceName }) => `${interfaceName} : jump ${direction}`).join(', ');
  };
  return `table ip peer {${chains.join('')}
  chain forward {
    type filter hook forward priority filter; policy accept;
    ct state established,related accept
    ct state invalid drop
    iifname vmap { ${dispatch('egress')} }
    oifname vmap { ${dispatch('ingress')} }
  }
}
`;
}

/** Ranges of one peer and protocol that touch become one: a set of intervals takes none that overlap. */
function elements(policies: readonly ListedPolicy[], direction: Direction): readonly string[] {
  const ranges = new Map<string, Range[]>();
  for (const rule of policies.flatMap((policy) => policy[direction])) {
    for (const { protocol, first, last } of rule.ports) {
      for (const peer of peersOf(rule)) {
        const key = `${peer} . ${protocol}`;
        const known = ranges.get(key);
        if (known === undefined) ranges.set(key, [{ first, last }]);
        else known.push({ first, last });
      }
    }
  }
  return [...ranges].flatMap(([key, list]) => merged(list).map(({ first, last }) => `${key} . ${first}-${last}`));
}

function peersOf({ members, blocks }: ListedRule): readonly string[] {
  return [...members.flatMap(({ addresses }) => addresses), ...blocks];
}

function merged(ranges: readonly Range[]): readonly Range[] {
  const out: Range[] = [];
  for (const range of ranges.toSorted((a, b) => a.first - b.first)) {
    const last = out.at(-1);
    if (last === undefined || range.first > last.last + 1) out.push(range);
    else out[out.length - 1] = { first: last.first, last: Math.max(last.last, range.last) };
  }
  return out;
}

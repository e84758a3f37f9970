// The node's own table of nftables: pods' way out of the cluster in the node's name, and who may speak through the tunnel. No
// other table is touched. The text is for nft(8), which is the one way to write it that every node's tools understand.
import { spawn } from 'node:child_process';
import { type Address, formatAddress } from '#net/address.ts';
import { type Cidr, formatCidr } from '#net/cidr.ts';

const TABLE = 'inet moat';

export type NodeFilter = {
  /** Blocks whose pods leave the cluster in the node's name; empty: they leave as they are. */
  readonly masqueraded: readonly Cidr[];
  /** Blocks of all nodes, and all nodes' addresses: what is in the cluster. */
  readonly blocks: readonly Cidr[];
  readonly nodes: readonly Address[];
  /** The tunnel's UDP port and VXLAN number. */
  readonly tunnel: { readonly port: number; readonly id: number };
};

/** Replaces the table as a whole, in one step. */
export function filterText({ masqueraded, blocks, nodes, tunnel }: NodeFilter): string {
  // Of VXLAN's header, the number is the fifth byte to the seventh; before it are eight bytes of UDP.
  const frames = `udp dport ${tunnel.port} @th,96,24 ${tunnel.id}`;
  return `table ${TABLE}
delete table ${TABLE}
table ${TABLE} {
${([4, 6] as const)
  .flatMap((family) => [
    setText(
      `masqueraded${family}`,
      family,
      masqueraded.filter((each) => each.address.family === family).map(formatCidr),
    ),
    setText(`blocks${family}`, family, blocks.filter((each) => each.address.family === family).map(formatCidr)),
    setText(`nodes${family}`, family, nodes.filter((each) => each.family === family).map(formatAddress)),
  ])
  .join('\n')}
  chain out {
    type nat hook postrouting priority srcnat; policy accept;
    meta l4proto tcp tcp flags & (fin | syn | rst | ack) != syn accept comment "an answer whose question went past this machine's stack"
    ip saddr @masqueraded4 ip daddr != @blocks4 ip daddr != @nodes4 masquerade fully-random
    ip6 saddr @masqueraded6 ip6 daddr != @blocks6 ip6 daddr != @nodes6 masquerade fully-random
  }
  chain tunnel_end {
    type filter hook prerouting priority raw; policy accept;
    udp dport ${tunnel.port} fib daddr type local notrack comment "the tunnel ends here, and at no pod's host port"
  }
  chain tunnel_in {
    type filter hook input priority raw; policy accept;
    ip saddr != @nodes4 ${frames} counter drop comment "only nodes speak through the tunnel"
    ip6 saddr != @nodes6 ${frames} counter drop comment "only nodes speak through the tunnel"
  }
  chain tunnel_forward {
    type filter hook forward priority raw; policy accept;
    ip daddr != @blocks4 ${frames} counter drop comment "who is no node would speak in this node's name"
    ip6 daddr != @blocks6 ${frames} counter drop comment "who is no node would speak in this node's name"
  }
}
`;
}

function setText(name: string, family: 4 | 6, elements: readonly string[]): string {
  const list = elements.length === 0 ? '' : `\n    elements = { ${elements.join(', ')} }`;
  return `  set ${name} {
    type ipv${family}_addr
    flags interval
    auto-merge${list}
  }`;
}

/** Puts the table in place. Throws where nft can't be run, or refuses it. */
export async function setNodeFilter(filter: NodeFilter): Promise<void> {
  await nft(['-f', '-'], filterText(filter));
}

/** The table as it stands, without its elements and what is counted; null where it is not there. */
export async function readNodeFilter(): Promise<string | null> {
  try {
    return await nft(['--terse', '--stateless', 'list', 'table', ...TABLE.split(' ')], '');
  } catch (error) {
    if (error instanceof Error && error.message.includes('No such file or directory\n')) return null;
    throw error;
  }
}

/** Takes the table away, where it is there. */
export async function removeNodeFilter(): Promise<void> {
  await nft(['-f', '-'], `table ${TABLE}\ndelete table ${TABLE}\n`);
}

/** Runs in the namespace that the thread is in. */
async function nft(args: readonly string[], input: string): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const child = spawn('nft', args, { stdio: 'pipe' });
  let output = '';
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  child.on('error', (cause) => reject(new Error(`can't run nft: ${cause.message}`, { cause })));
  child.on('close', (code) => (code === 0 ? resolve(output) : reject(new Error(`nft ${args.join(' ')}: ${said}`))));
  // A child that ends early closes its input: its exit code tells, not the broken pipe.
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  return await promise;
}

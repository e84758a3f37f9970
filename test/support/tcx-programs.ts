// Prints which programs hang on the links of the network namespace that it runs in, by tcx: a line `LINK PLACE IDS` for each
// place that has some. Debian's bpftool is older than tcx and shows none of them. Needs root.
import { execFileSync } from 'node:child_process';
import { hasTcx, programsAt } from '#datapath/ebpf/hooks.ts';

type Link = { readonly ifname: string; readonly ifindex: number };

const links = hasTcx() ? (JSON.parse(execFileSync('ip', ['-json', 'link'], { encoding: 'utf8' })) as Link[]) : [];
for (const { ifname, ifindex } of links)
  for (const place of ['ingress', 'egress'] as const) {
    const ids = programsAt(ifindex, place);
    if (ids.length > 0) process.stdout.write(`${ifname} ${place} ${ids.join(',')}\n`);
  }

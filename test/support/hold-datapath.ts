// A process that opens a datapath for a bed's pods, says `ready`, and waits to be killed: `hold-datapath.ts JSON`.
import type { AttachMode } from '#datapath/ebpf/hooks.ts';
import { openDatapath } from '#datapath/ebpf/open.ts';
import { enterNetns } from '#kernel/sockets.ts';
import { endpointStep, ground, isolatingSet } from './hand-plan.ts';
import { NODE_ADDRESSES } from './kills/outside.ts';
import { address } from './pod-bed.ts';

/** Pods as `[interface, MAC, addresses…]`; the last one's ingress is closed by `denyRule`. */
export type Held = {
  readonly netns: string;
  readonly instance: string;
  readonly pods: readonly {
    readonly interfaceIndex: number;
    readonly mac: readonly number[];
    readonly addresses: readonly string[];
  }[];
  readonly denyRule: number;
  /** Each by one pod; where there are any, the node's own clients are served, too. */
  readonly services: readonly {
    readonly address: string;
    readonly protocol: number;
    readonly port: number;
    readonly backend: string;
    readonly listens: number;
    /** Served to clients outside of the node, whose own addresses are `NODE_ADDRESSES`. */
    readonly scope?: 'outside';
  }[];
  /** By default what the kernel has. */
  readonly attach?: AttachMode;
  /** Never takes over what an earlier version's hooks have. */
  readonly unsettled: boolean;
};

if (import.meta.main) {
  const held = JSON.parse(process.argv[2] ?? '{}') as Held;
  enterNetns(held.netns);
  const datapath = openDatapath({
    ...{ instance: held.instance, node: 'node-a', sizes: { ct_map: 2048 } },
    ...(held.attach === undefined ? {} : { attach: held.attach }),
    hostClients: held.services.length > 0,
  });
  datapath.apply([...ground(), ...isolatingSet(7, held.denyRule)]);
  for (const [index, pod] of held.pods.entries()) {
    const addresses = pod.addresses.map(address);
    datapath.attach({ interfaceIndex: pod.interfaceIndex, mac: Uint8Array.from(pod.mac), addresses });
    const sets = index === held.pods.length - 1 ? { ingress: 7 } : {};
    datapath.apply(addresses.map((each) => endpointStep(each, sets, `pod${index}`)));
  }
  for (const { backend, listens, ...service } of held.services) {
    const at = { ...service, address: address(service.address) };
    const value = { ...at, backends: [{ address: address(backend), port: listens }], places: [0] };
    datapath.apply([{ kind: 'service', at, value }]);
  }
  datapath.apply([{ kind: 'node', node: 'node-a', value: Object.values(NODE_ADDRESSES) }]);
  datapath.refresh();
  if (!held.unsettled) datapath.settle();
  process.stdout.write('ready\n');
  setInterval(() => {}, 1000);
}

// How a node's eBPF datapath is opened.
import type { AttachMode } from './hooks.ts';
import type { Knobs } from './load.ts';

export type OpenOptions = {
  /** Tells sandboxes and test runs on one machine apart. */
  readonly instance: string;
  readonly node: string;
  /** Entries per map, by the map's name; what is not named has bpf/maps.h's size. */
  readonly sizes?: Readonly<Record<string, number>>;
  readonly knobs?: Knobs;
  /** Another object than the project's build. */
  readonly object?: string;
  /** Whether Services are served to the sockets of this network namespace itself, by hooks at the root of cgroup2. */
  readonly hostClients?: boolean;
  /** How hooks are attached; by default what the kernel has. */
  readonly attach?: AttachMode;
};

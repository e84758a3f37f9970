// The node's uplinks: which interfaces they are, their hook, and whether packets may go past the host's stack there.
import { UPLINK_FLAG } from '#datapath/ebpf/encode/abi.gen.ts';
import { listFilters } from '#kernel/tc.ts';
import { type Address, formatAddress } from '#net/address.ts';
import type { Hooks, HookView } from './hooks.ts';
import { type AddressedInterface, forwardedFamilies, hasTransformPolicies } from './links.ts';
import { type Repair, repairHooks } from './repair.ts';

export type UplinkSetup = {
  readonly hooks: Hooks;
  /** Hooks are filters of clsact themselves, so that those of others are seen beside them. */
  readonly areFilters: boolean;
  /** Writes what may go past the stack at an interface: UPLINK_FLAG, 0 = nothing. */
  readonly publish: (interfaceIndex: number, flags: number) => void;
};

type Uplink = { readonly flags: number; readonly published: number };

/** The hooks of uplinks save work and judge nothing that pods' hooks do not: without them every packet takes the stack. */
export class Uplinks {
  readonly #setup: UplinkSetup;
  readonly #known = new Map<number, Uplink>();

  constructor(setup: UplinkSetup) {
    this.#setup = setup;
  }

  get interfaces(): readonly number[] {
    return [...this.#known.keys()];
  }

  /** Brings the hook to interfaces that have one of the node's addresses, and takes it off others. Every few seconds. */
  refresh(interfaces: readonly AddressedInterface[], node: readonly Address[]): void {
    const own = new Set<string>(node.map(formatAddress));
    const uplinks = interfaces.filter(
      ({ frames, addresses }) => frames && addresses.some((each) => own.has(formatAddress(each))),
    );
    const kept = new Set(uplinks.map(({ index }) => index));
    for (const index of this.#known.keys()) if (!kept.has(index)) this.#detach(index);
    const mayPass = uplinks.length > 0 && !hasTransformPolicies();
    for (const { index, name } of uplinks) {
      if (!this.#known.has(index)) this.#setup.hooks.attach(index);
      this.#note(index, mayPass ? flagsOf(forwardedFamilies(name)) : 0);
    }
  }

  /** Puts back hooks and pins that somebody took away. Who gets ahead stays there: then packets take the stack. */
  repair(): readonly Repair[] {
    return [...this.#known].flatMap(([index, { flags }]) => {
      const view = this.#setup.hooks.look(index);
      const repair = view.health === 'behind' ? null : repairHooks(this.#setup.hooks, index, view);
      this.#note(index, flags);
      return repair ?? [];
    });
  }

  detachAll(): void {
    for (const index of this.interfaces) this.#detach(index);
  }

  /** Hooks that an earlier process left on what is no uplink any more find nothing to do there. */
  forgetGone(): void {
    this.#setup.hooks.forgetGone();
  }

  /** Leaves the hooks to the kernel. */
  close(): void {
    this.#setup.hooks.close();
  }

  #detach(index: number): void {
    this.#setup.publish(index, 0);
    this.#setup.hooks.detach(index);
    this.#known.delete(index);
  }

  #note(index: number, flags: number): void {
    const published = this.#isAlone(index, this.#setup.hooks.look(index)) ? flags : 0;
    if (this.#known.get(index)?.published !== published) this.#setup.publish(index, published);
    this.#known.set(index, { flags, published });
  }

  /** Somebody's program on what arrives there must see all of it. */
  #isAlone(index: number, view: HookView): boolean {
    if (view.health !== 'first' || !view.alone) return false;
    return this.#setup.areFilters || listFilters(index, 'ingress').length === 0;
  }
}

function flagsOf(families: ReadonlySet<4 | 6>): number {
  return (families.has(4) ? UPLINK_FLAG.IPV4 : 0) | (families.has(6) ? UPLINK_FLAG.IPV6 : 0);
}

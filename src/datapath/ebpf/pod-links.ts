// Pods' interfaces: their hooks, and whether packets may skip the host's side of them.
import type { Encoder } from '#datapath/ebpf/encode/encoder.ts';
import type { Link } from '#datapath/ebpf/encode/endpoints.ts';
import type { EndpointLink } from '#datapath/port.ts';
import { SystemCallError } from '#kernel/sockets.ts';
import { Bridges } from './bridges.ts';
import { DatapathError } from './error.ts';
import type { HookHealth, HookView, StagedHooks } from './hooks.ts';
import { type AddressedInterface, InterfaceError, type InterfaceFacts, interfaceFacts } from './links.ts';
import { type Repair, repairHooks } from './repair.ts';

export type PodLinkSetup = {
  readonly hooks: StagedHooks;
  /** Hooks are filters of clsact themselves, so that those of others are seen beside them. */
  readonly areFilters: boolean;
  readonly encoder: Pick<Encoder, 'attach' | 'detach' | 'bridge' | 'gateways'>;
  /** Runs a change of the tables, and writes it. */
  readonly change: (work: () => void) => void;
  /** Hooks may still belong to another version's tables. */
  readonly isUpgrading: () => boolean;
};

type AttachedLink = EndpointLink & {
  readonly adoptUntil: bigint;
  readonly facts: InterfaceFacts;
  readonly skips: Skips;
};

/** What packets may skip of an interface: as `Link` has it. */
type Skips = Pick<Link, 'plain' | 'redirect'>;

const NOTHING: Skips = { plain: false, redirect: false };

export class PodLinks {
  readonly #setup: PodLinkSetup;
  readonly #links = new Map<number, AttachedLink>();

  readonly #bridges: Bridges;

  constructor(setup: PodLinkSetup) {
    this.#setup = setup;
    this.#bridges = new Bridges({
      publish: (index, isHeld) => setup.change(() => setup.encoder.bridge(index, isHeld)),
      gateways: (addresses) => setup.change(() => setup.encoder.gateways(addresses)),
    });
  }

  get bridges(): Pick<Bridges, 'interfaces' | 'complaints'> {
    return this.#bridges;
  }

  attach(link: EndpointLink, adoptForMs: number): void {
    const attached = this.#attach(link, adoptForMs, (index) => this.#setup.hooks.attach(index));
    this.#refreshLink(attached, attached.facts, this.#setup.hooks.look(link.interfaceIndex));
  }

  /**
   * As `attach`, without waiting for the kernel: `finishNew` does what is left. Nothing skips the host's side of the interface
   * until it is looked at.
   */
  attachNew(link: EndpointLink, adoptForMs: number): void {
    this.#attach(link, adoptForMs, (index) => this.#setup.hooks.attachNew(index));
  }

  /** Finishes one interface that is new. */
  finishNew(): void {
    const [index] = this.#setup.hooks.early;
    const link = index === undefined ? undefined : this.#links.get(index);
    if (link === undefined) return;
    try {
      this.#setup.hooks.attach(link.interfaceIndex);
    } catch (error) {
      // It goes on as it is, and is tried again; where the interface is gone, the next repair says so.
      if (!(error instanceof SystemCallError)) throw error;
      return;
    }
    const facts = this.#factsOf(link.interfaceIndex);
    if (facts !== null) this.#refreshLink(link, facts, this.#setup.hooks.look(link.interfaceIndex));
  }

  #attach(link: EndpointLink, adoptForMs: number, hook: (interfaceIndex: number) => void): AttachedLink {
    const facts = interfaceFacts(link.interfaceIndex);
    const adoptUntil = adoptForMs === 0 ? 0n : process.hrtime.bigint() + BigInt(adoptForMs) * 1_000_000n;
    const attached = { ...link, adoptUntil, facts, skips: NOTHING };
    this.#publish(attached);
    this.#hook(link.interfaceIndex, hook);
    this.#links.set(link.interfaceIndex, attached);
    this.#bridges.attached(facts);
    return attached;
  }

  detach(interfaceIndex: number): void {
    this.#setup.change(() => {
      this.#setup.encoder.detach(interfaceIndex);
      this.#setup.hooks.detach(interfaceIndex);
    });
    this.#links.delete(interfaceIndex);
  }

  detachAll(): void {
    for (const index of [...this.#links.keys()]) this.detach(index);
  }

  /** Looks afresh at what is on every interface. */
  refresh(interfaces: ReadonlyMap<number, AddressedInterface>): ReadonlyMap<number, HookHealth> {
    this.#bridges.refresh(interfaces, new Set(this.#links.keys()));
    const found = new Map<number, HookHealth>();
    for (const link of [...this.#links.values()]) {
      const view = this.#setup.hooks.look(link.interfaceIndex);
      found.set(link.interfaceIndex, view.health);
      const facts = view.health === 'absent' ? undefined : interfaces.get(link.interfaceIndex);
      if (facts !== undefined) this.#refreshLink(link, facts, view);
    }
    return found;
  }

  health(interfaceIndex: number): HookHealth {
    const known = this.#links.get(interfaceIndex);
    return known === undefined ? this.#setup.hooks.look(interfaceIndex).health : this.#look(known).health;
  }

  /** `isPinned`: as for `look` of hooks. */
  repair(isPinned: (path: string) => boolean): readonly Repair[] {
    return [...this.#links.values()].flatMap((link) => {
      const repair = repairHooks(this.#setup.hooks, link.interfaceIndex, this.#look(link, isPinned));
      if (repair !== null) this.#look(link);
      return repair ?? [];
    });
  }

  /** Publishes what packets may skip by now. */
  renew(): void {
    for (const link of [...this.#links.values()]) this.#look(link);
  }

  forgetGone(): void {
    this.#setup.hooks.forgetGone();
  }

  /** Leaves the hooks to the kernel. */
  close(): void {
    this.#setup.hooks.close();
  }

  /** The tables are whole where this fails, so only this interface is closed: it may have gone meanwhile. */
  #hook(interfaceIndex: number, hook: (interfaceIndex: number) => void): void {
    try {
      hook(interfaceIndex);
    } catch (cause) {
      this.#setup.change(() => this.#setup.encoder.detach(interfaceIndex));
      throw new DatapathError(`interface ${interfaceIndex} can't be given its hooks; its pod stays closed`, cause);
    }
  }

  #look(known: AttachedLink, isPinned?: (path: string) => boolean): HookView {
    const view = this.#setup.hooks.look(known.interfaceIndex, isPinned);
    const link = this.#links.get(known.interfaceIndex) ?? known;
    const { plain, redirect } = this.#skipsOf(link.facts, view);
    const stale = link.skips.plain !== plain || link.skips.redirect !== redirect;
    if (view.health !== 'absent' && stale) this.#refreshLink(link, link.facts, view);
    return view;
  }

  /** Null where the interface is gone, or the kernel does not say now: what was known stays until the next look. */
  #factsOf(interfaceIndex: number): InterfaceFacts | null {
    try {
      return interfaceFacts(interfaceIndex);
    } catch (error) {
      if (error instanceof SystemCallError || (error instanceof InterfaceError && error.gone)) return null;
      throw error;
    }
  }

  #refreshLink(link: AttachedLink, facts: InterfaceFacts, view: HookView): void {
    const fresh = { ...link, facts, skips: this.#skipsOf(facts, view) };
    this.#publish(fresh);
    this.#links.set(link.interfaceIndex, fresh);
  }

  #publish(link: AttachedLink): void {
    const { facts, skips } = link;
    this.#setup.change(() => this.#setup.encoder.attach({ ...link, ...skips, hostMac: facts.mac, mtu: facts.mtu }));
  }

  #skipsOf(facts: InterfaceFacts, view: HookView): Skips {
    const plain = facts.plain && view.alone && (this.#setup.areFilters || !facts.clsact);
    // A hook of another version's tables would not see the packet.
    return { plain, redirect: plain && !this.#setup.isUpgrading() };
  }
}

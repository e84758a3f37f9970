// Bridges of other CNIs, over pods' interfaces, and the addresses that the node speaks to its pods from. What the node routes
// out of a bridge does not tell by which port it came in: its source is believed while every port has hooks, which judged it.
import { readAddresses } from '#kernel/interfaces.ts';
import { type Address, formatAddress } from '#net/address.ts';
import type { AddressedInterface, InterfaceFacts } from './links.ts';

export type BridgeSetup = {
  readonly publish: (interfaceIndex: number, isHeld: boolean) => void;
  readonly gateways: (addresses: readonly Address[]) => void;
};

type Bridge = {
  /** Ports without hooks, at the last look. */
  readonly strangers: ReadonlySet<number>;
  /** Those that had none at the look before, either: a pod that is being attached has them by then. By name. */
  readonly open: readonly string[];
};

export class Bridges {
  readonly #setup: BridgeSetup;
  readonly #known = new Map<number, Bridge>();
  readonly #gateways = new Map<string, Address>();

  constructor(setup: BridgeSetup) {
    this.#setup = setup;
  }

  get interfaces(): readonly number[] {
    return [...this.#known.keys()];
  }

  /** What to say of bridges that others are on, too. */
  get complaints(): readonly string[] {
    return [...this.#known].flatMap(([index, { open }]) =>
      open.length === 0
        ? []
        : `the bridge ${index} has ports that are no pods of Moat's (${open.slice(0, 5).join(', ')}): what the node routes between pods by it is refused`,
    );
  }

  /** A pod's interface has come. */
  attached({ index, master }: InterfaceFacts): void {
    const addresses = readAddresses();
    this.#speakFrom([...this.#gateways.values(), ...[index, master].flatMap((each) => addresses.get(each) ?? [])]);
    if (master === 0 || this.#known.has(master)) return;
    this.#known.set(master, { strangers: new Set(), open: [] });
    this.#setup.publish(master, true);
  }

  /** Looks at all interfaces. `hooked`: those with hooks. */
  refresh(interfaces: ReadonlyMap<number, AddressedInterface>, hooked: ReadonlySet<number>): void {
    const all = [...interfaces.values()];
    const ports = Map.groupBy(all, ({ master }) => master);
    const bridges = new Set(all.filter(({ index }) => hooked.has(index)).map(({ master }) => master));
    bridges.delete(0);
    for (const index of this.#known.keys()) if (!bridges.has(index)) this.#forget(index);
    for (const index of bridges) this.#note(index, ports.get(index)?.filter((port) => !hooked.has(port.index)) ?? []);
    this.#speakFrom([...hooked, ...bridges].flatMap((index) => interfaces.get(index)?.addresses ?? []));
  }

  #forget(index: number): void {
    this.#known.delete(index);
    this.#setup.publish(index, false);
  }

  #note(index: number, strangers: readonly AddressedInterface[]): void {
    const before = this.#known.get(index);
    const open = strangers.filter((port) => before?.strangers.has(port.index)).map(({ name }) => name);
    this.#known.set(index, { strangers: new Set(strangers.map((port) => port.index)), open });
    const isHeld = open.length === 0;
    if (before === undefined || (before.open.length === 0) !== isHeld) this.#setup.publish(index, isHeld);
  }

  #speakFrom(addresses: readonly Address[]): void {
    const wanted = new Map(addresses.filter((each) => !isLinkLocal(each)).map((each) => [formatAddress(each), each]));
    const isSame = wanted.size === this.#gateways.size && [...wanted.keys()].every((key) => this.#gateways.has(key));
    if (isSame) return;
    this.#gateways.clear();
    for (const [key, address] of wanted) this.#gateways.set(key, address);
    this.#setup.gateways([...wanted.values()]);
  }
}

/** Every link has these, and no packet of another link's: what the node says from them is neighbours' talk. */
function isLinkLocal({ family, words: [high = 0] }: Address): boolean {
  return family === 6 ? high >>> 22 === 0xfe80 >>> 6 : high >>> 16 === 0xa9fe;
}

// What the Services of one namespace may take of a node's tables. Whoever writes Services there takes room from nobody else's:
// a port for which none is left is refused, in that namespace alone (docs/decisions/0041-shares-of-services.md).
import type { ServiceAddress, ServiceKey } from '#compile/plan.ts';

/** What ports take: themselves, the places of their tables, and their backends. */
export type Cost = { readonly ports: number; readonly places: number; readonly backends: number };

/** One namespace's share of a node: it leaves others a sixteenth of the kernel's tables of Services. */
export const NODE_SHARE: Cost = { ports: 15 << 12, places: 15 << 16, backends: 15 << 12 };

const ALL = ['ports', 'places', 'backends'] as const;

/** whole: all of it has room · refused: its port alone has, and nobody serves there · none: not even that. */
export type Room = 'whole' | 'refused' | 'none';

/** A port of a Service that found no room in its namespace's share. */
export type ShortPort = { readonly at: ServiceAddress; readonly service: string };

/** A namespace whose Services found no room for all that they ask for. */
export type ServiceShortage = {
  readonly namespace: string;
  /** What is used up, and how much of it there is. */
  readonly spent: keyof Cost;
  readonly limit: number;
  readonly ports: number;
  /** The one that has waited the longest. */
  readonly first: ShortPort;
};

type Share = {
  readonly taken: { -readonly [what in keyof Cost]: number };
  /** In the order of coming. */
  readonly short: Map<ServiceKey, ShortPort>;
  spent: keyof Cost;
  gave: boolean;
};

type Held = { readonly namespace: string; readonly cost: Cost };

const NOTHING: Cost = { ports: 0, places: 0, backends: 0 };

export class ServiceShares {
  readonly #limits: Cost;
  readonly #shares = new Map<string, Share>();
  readonly #held = new Map<ServiceKey, Held>();
  /** In whose share a port waits for room. */
  readonly #waiting = new Map<ServiceKey, string>();

  constructor(limits: Cost = NODE_SHARE) {
    this.#limits = limits;
  }

  /** Takes room for what is at a place from now on, and gives back what was there before. */
  take(key: ServiceKey, namespace: string, cost: Cost, port: ShortPort): Room {
    const before = this.#release(key);
    const share = this.#shareOf(namespace);
    const spent = lacking(share, cost, this.#limits);
    const bare = { ports: cost.ports, places: 0, backends: 0 };
    const room = spent === null ? 'whole' : lacking(share, bare, this.#limits) === null ? 'refused' : 'none';
    const taken = room === 'whole' ? cost : room === 'refused' ? bare : NOTHING;
    for (const what of ALL) share.taken[what] += taken[what];
    if (room !== 'none') this.#held.set(key, { namespace, cost: taken });
    const isLess = before?.namespace !== namespace || ALL.some((what) => before.cost[what] > taken[what]);
    if (before !== null && isLess) this.#shareOf(before.namespace).gave = true;
    if (spent === null || this.#waiting.get(key) !== namespace) this.#waitNoMore(key);
    if (spent !== null) {
      share.spent = spent;
      this.#waiting.set(key, namespace);
      share.short.set(key, port);
    }
    if (before !== null) this.#sweep(before.namespace);
    return room;
  }

  /** Nobody wants the place any more. */
  give(key: ServiceKey): void {
    const before = this.#release(key);
    if (before !== null) this.#shareOf(before.namespace).gave = true;
    this.#waitNoMore(key);
    if (before !== null) this.#sweep(before.namespace);
  }

  /** Those that found no room, of each namespace that gave something back since the last call; longest waiting first. */
  *hopeful(): Generator<readonly ShortPort[]> {
    for (const share of [...this.#shares.values()]) {
      if (!share.gave) continue;
      share.gave = false;
      if (share.short.size > 0) yield [...share.short.values()];
    }
  }

  /** Whether what is at a place found no room for all of it. */
  isShort(key: ServiceKey): boolean {
    return this.#waiting.has(key);
  }

  get shortages(): readonly ServiceShortage[] {
    return [...this.#shares].flatMap(([namespace, { short, spent }]) => {
      const [first] = short.values();
      return first === undefined ? [] : [{ namespace, spent, limit: this.#limits[spent], ports: short.size, first }];
    });
  }

  /** The port waits for room no longer, in whosever share that was. */
  #waitNoMore(key: ServiceKey): void {
    const namespace = this.#waiting.get(key);
    if (namespace === undefined) return;
    this.#waiting.delete(key);
    this.#shares.get(namespace)?.short.delete(key);
    this.#sweep(namespace);
  }

  #release(key: ServiceKey): Held | null {
    const held = this.#held.get(key);
    if (held === undefined) return null;
    this.#held.delete(key);
    const { taken } = this.#shareOf(held.namespace);
    for (const what of ALL) taken[what] -= held.cost[what];
    return held;
  }

  #shareOf(namespace: string): Share {
    const found = this.#shares.get(namespace);
    if (found !== undefined) return found;
    const share: Share = {
      taken: { ports: 0, places: 0, backends: 0 },
      ...{ short: new Map(), spent: 'ports', gave: false },
    };
    this.#shares.set(namespace, share);
    return share;
  }

  /** Namespaces come and go. */
  #sweep(namespace: string): void {
    const share = this.#shares.get(namespace);
    if (share?.short.size === 0 && share.taken.ports === 0) this.#shares.delete(namespace);
  }
}

function lacking({ taken }: Share, cost: Cost, limits: Cost): keyof Cost | null {
  return ALL.find((what) => taken[what] + cost[what] > limits[what]) ?? null;
}

const MEANING: Readonly<Record<keyof Cost, string>> = {
  ports: 'ports of Services',
  places: 'places in the tables of backends',
  backends: 'backends',
};

/** What to say of it, and what to do. */
export function serviceShortageText({ namespace, spent, limit, ports, first }: ServiceShortage): string {
  const { service, at } = first;
  return (
    `the Services of namespace ${namespace} ask for more than their share of this node, ${limit} ${MEANING[spent]}: ${ports} of their ports ` +
    `are refused (Service ${service}, port ${at.port}, among others), and no others'; give them fewer ports or fewer endpoints`
  );
}

// What the kernel has of this node's part of the pod network, brought to what a plan says: the tunnel's link, whom it
// reaches, routes, rules. Only what carries the own mark, or is on the own link, is ever changed or removed.
import type { Message } from '#kernel/netlink.ts';
import {
  addRule,
  askEntries,
  askRoutes,
  askRules,
  type LinkEntry,
  type Mark,
  makeVxlan,
  type OwnRoute,
  type OwnRule,
  raiseWithMtu,
  readEntry,
  readOwnRoute,
  readRule,
  readVxlan,
  removeEntry,
  removeOwnRoute,
  removeRule,
  setEntry,
  setOwnRoute,
} from '#kernel/overlay-messages.ts';
import { ASK_ALL, askLink, readAddressRecord, readLinkRecord, removeLink } from '#kernel/route-messages.ts';
import { Rtnetlink } from '#kernel/rtnetlink.ts';
import { SystemCallError } from '#kernel/sockets.ts';
import { formatAddress } from '#net/address.ts';
import { type Cidr, formatCidr } from '#net/cidr.ts';
import type { NodePlan, PlannedRoute, Subnet, Tunnel } from './node-plan.ts';

export const TUNNEL_LINK = 'vxlan.moat';
/** IANA's port for VXLAN, and a number of our own. */
export const TUNNEL: { readonly port: number; readonly id: number } = { port: 4789, id: 0x6d6f61 };
export const MARK: Mark = { protocol: 109, priority: 10_900 };
const RT_TABLE_MAIN = 254;
/** What pods send to nodes that are beyond the tunnel. */
const POD_TABLE = 10_900;
const LOOPBACK = 1;
/** More answers at once than these may find no room in the socket. */
const TOGETHER = 64;

export class RouteTables {
  readonly #socket: Rtnetlink = new Rtnetlink();

  /** This node's addresses on links that are up, loopback and tunnel apart. */
  subnets(): readonly Subnet[] {
    const links = this.#socket.list(ASK_ALL.links).flatMap((told) => readLinkRecord(told) ?? []);
    const usable = new Map(
      links
        .filter(({ index, name, up }) => up && index !== LOOPBACK && name !== TUNNEL_LINK)
        .map((link) => [link.index, link]),
    );
    return this.#socket.list(ASK_ALL.addresses).flatMap((told) => {
      const found = readAddressRecord(told);
      const link = found && usable.get(found.index);
      return found && link ? { ...found, mtu: link.mtu } : [];
    });
  }

  /** Brings everything to what the plan says. `blocks`: this node's own. Returns what the kernel refused, a line each. */
  apply({ routes, tunnel }: Pick<NodePlan, 'routes' | 'tunnel'>, blocks: readonly Cidr[]): readonly string[] {
    const refused: string[] = [];
    let index = 0;
    try {
      if (tunnel === null) this.#removeTunnel();
      else index = this.#setTunnel(tunnel);
    } catch (error) {
      if (!(error instanceof SystemCallError)) throw error;
      // Where nobody is beyond it, nobody misses it.
      if (tunnel !== null && tunnel.ends.length > 0)
        refused.push(`the VXLAN link ${TUNNEL_LINK} can't be made: ${error.message}`);
    }
    const wanted = routes.flatMap((route) => ownRoute(route, index) ?? []);
    const rules = wanted.some(({ table }) => table === POD_TABLE)
      ? blocks.map((from) => ({ from, table: POD_TABLE }))
      : [];
    // What is gone first: a block may move from one node to another.
    refused.push(...this.#applyEntries(index === 0 || tunnel === null ? [] : entriesOf(tunnel, index), index));
    refused.push(...this.#applyRoutes(wanted));
    refused.push(...this.#applyRules(rules));
    return refused;
  }

  /** Takes away everything that `apply` makes. */
  remove(): void {
    const refused = [...this.#applyRules([]), ...this.#applyRoutes([])];
    this.#removeTunnel();
    if (refused.length > 0) throw new Error(refused.join('; '));
  }

  close(): void {
    this.#socket.close();
  }

  /** Its index. */
  #setTunnel({ local, mac, mtu }: Tunnel): number {
    const wanted = { name: TUNNEL_LINK, ...TUNNEL, local, mac, mtu };
    const found = this.#findTunnel();
    const same = found?.vxlan && found.vxlan.id === wanted.id && found.vxlan.port === wanted.port;
    const isSame =
      same && formatAddress(found.vxlan.local) === formatAddress(local) && Buffer.from(mac).equals(found.vxlan.mac);
    if (found && isSame) {
      if (found.vxlan?.mtu !== mtu || !found.up) this.#socket.change(TUNNEL_LINK, [raiseWithMtu(found.index, mtu)]);
      return found.index;
    }
    if (found) this.#socket.change(TUNNEL_LINK, [removeLink(found.index)]);
    this.#socket.change(TUNNEL_LINK, [makeVxlan(wanted)]);
    const made = this.#findTunnel();
    if (made === null) throw new Error(`${TUNNEL_LINK} went as soon as it was made`);
    this.#socket.change(TUNNEL_LINK, [raiseWithMtu(made.index, mtu)]);
    return made.index;
  }

  #findTunnel(): { readonly index: number; readonly up: boolean; readonly vxlan: ReturnType<typeof readVxlan> } | null {
    const [told] = this.#socket.ask([askLink(TUNNEL_LINK)])[0]?.told ?? [];
    const link = told && readLinkRecord(told);
    return link ? { index: link.index, up: link.up, vxlan: readVxlan(told) } : null;
  }

  #removeTunnel(): void {
    const found = this.#findTunnel();
    if (found !== null) this.#socket.change(TUNNEL_LINK, [removeLink(found.index)]);
  }

  #applyEntries(wanted: readonly LinkEntry[], index: number): readonly string[] {
    if (index === 0) return [];
    const asks = [askEntries('forwarding'), askEntries(4), askEntries(6)];
    const found = asks
      .flatMap((ask) => this.#socket.list(ask))
      .flatMap((told) => readEntry(told) ?? [])
      .filter((entry) => entry.index === index);
    return this.#differ({ found, wanted, textOf: entryText, placeOf: entryPlace, set: setEntry, remove: removeEntry });
  }

  #applyRoutes(wanted: readonly OwnRoute[]): readonly string[] {
    const told = ([4, 6] as const).flatMap((family) => this.#socket.list(askRoutes(family)));
    return this.#differ({
      found: told.flatMap((each) => readOwnRoute(each, MARK) ?? []),
      wanted,
      textOf: routeText,
      placeOf: ({ table, destination }) => `${table} ${formatCidr(destination)}`,
      set: (route) => setOwnRoute(route, MARK),
      remove: (route) => removeOwnRoute(route, MARK),
    });
  }

  #applyRules(wanted: readonly OwnRule[]): readonly string[] {
    const told = ([4, 6] as const).flatMap((family) => this.#socket.list(askRules(family)));
    const textOf = ({ from, table }: OwnRule): string => `the rule for ${formatCidr(from)}, table ${table}`;
    return this.#differ({
      found: told.flatMap((each) => readRule(each, MARK) ?? []),
      wanted,
      ...{ textOf, placeOf: textOf },
      set: (rule) => addRule(rule, MARK),
      remove: (rule) => removeRule(rule, MARK),
    });
  }

  #differ<T>({ found, wanted, textOf, placeOf, set, remove }: Difference<T>): readonly string[] {
    const kept = new Set(wanted.map(placeOf));
    const there = new Set(found.map(textOf));
    const gone = found.filter((each) => !kept.has(placeOf(each)));
    const missing = wanted.filter((each) => !there.has(textOf(each)));
    const changes = [
      ...gone.map((each) => ({ text: `no more ${textOf(each)}`, message: remove(each) })),
      ...missing.map((each) => ({ text: textOf(each), message: set(each) })),
    ];
    return this.#change(changes);
  }

  /** One that is refused does not keep the others from being made. */
  #change(changes: readonly { readonly text: string; readonly message: Message }[]): readonly string[] {
    const refused: string[] = [];
    for (let start = 0; start < changes.length; start += TOGETHER) {
      const part = changes.slice(start, start + TOGETHER);
      const outcomes = this.#socket.ask(part.map(({ message }) => message));
      for (const [at, { errno }] of outcomes.entries()) {
        if (errno !== 0) refused.push(new SystemCallError(`${part[at]?.text} can't be made`, errno).message);
      }
    }
    return refused;
  }
}

/** `placeOf`: of two things in one place, the later replaces the earlier. */
type Difference<T> = {
  readonly found: readonly T[];
  readonly wanted: readonly T[];
  readonly textOf: (each: T) => string;
  readonly placeOf: (each: T) => string;
  readonly set: (each: T) => Message;
  readonly remove: (each: T) => Message;
};

/** Null where it goes by a tunnel that is not there (index 0). */
function ownRoute({ index, fromPods, ...route }: PlannedRoute, tunnel: number): OwnRoute | null {
  const link = index ?? tunnel;
  return link === 0 ? null : { ...route, index: link, table: fromPods ? POD_TABLE : RT_TABLE_MAIN };
}

function entriesOf({ ends }: Tunnel, index: number): readonly LinkEntry[] {
  return ends.flatMap(({ mac, address, gateways }): readonly LinkEntry[] => [
    { kind: 'forwarding', index, mac, address },
    ...gateways.map((gateway) => ({ kind: 'neighbour', index, mac, address: gateway }) as const),
  ]);
}

function entryText({ kind, mac, address }: LinkEntry): string {
  return `the ${kind} entry of ${Buffer.from(mac).toString('hex')} and ${formatAddress(address)}`;
}

function entryPlace({ kind, mac, address }: LinkEntry): string {
  return `${kind} ${kind === 'forwarding' ? Buffer.from(mac).toString('hex') : formatAddress(address)}`;
}

function routeText({ table, destination, index, gateway, source }: OwnRoute): string {
  const from = source === null ? '' : ` from ${formatAddress(source)}`;
  return `the route to ${formatCidr(destination)} by ${formatAddress(gateway)} on link ${index}${from}, table ${table}`;
}

// Steps of a Plan → writes to the kernel's tables, in an order that is safe for packets under way. Pure.
import type { IdentityNumber, LayerNumber, Step } from '#compile/plan.ts';
import type { Fill, Lack } from '#datapath/port.ts';
import type { Address } from '#net/address.ts';
import type { Cidr } from '#net/cidr.ts';
import { UPLINK_FLAG } from './abi.gen.ts';
import { addressBytes, prefixBytes, readServiceAddress, taggedBytes, u32Bytes } from './bytes.ts';
import { Endpoints, type Inherited, type Link } from './endpoints.ts';
import { Nodes } from './nodes.ts';
import { Services } from './services.ts';
import { Shields } from './shields.ts';
import { type HashName, NumbersUsedUpError, type Sink, type Sizes, StepOrderError } from './sink.ts';
import { Limbo } from './space.ts';
import { type Ground, PolicyTables } from './tables.ts';
import { addressTag, prefixTag } from './tag.ts';

const IDENTITY_UNKNOWN = 0x8000_0000;
/** Numbers are reserved in blocks, so that a crash never leaves one in use above `high`. Each start takes one at least. */
const BLOCK = 1 << 12;

/** Where an encoder starts: on empty tables all are zero. */
export type Start = {
  readonly node: string;
  readonly sizes: Sizes;
  readonly epoch: bigint;
  readonly generation: number;
  /** Added to rule, layer and identity numbers: those up to it may still be in the kernel. */
  readonly base: number;
  readonly bank: 0 | 1;
  readonly serviceBank: 0 | 1;
  readonly inherited: readonly Inherited[];
  /** Holds up the caller for two grace periods. */
  readonly wait: () => void;
};

/** What of these steps is on its way out: packets under way may still ask for it. */
type Dying = { readonly layers: ReadonlySet<LayerNumber>; readonly identities: ReadonlySet<IdentityNumber> };

export class Encoder {
  readonly limbo: Limbo;
  readonly #ground: Ground;
  readonly #sink: Sink;
  readonly #start: Start;
  readonly #tables: PolicyTables;
  readonly #endpoints: Endpoints;
  readonly #nodes: Nodes;
  readonly #services: Services;
  readonly #shields: Shields;
  readonly #unknown = new Map<IdentityNumber, boolean>();
  /** What uplink_map says of interfaces: UPLINK_FLAG. */
  readonly #ways = new Map<number, number>();
  /** Addresses that become Services': flows there take the long way once, where that is seen. */
  readonly #served: Address[] = [];
  #epoch: bigint;
  #bump = false;
  #generation: number;
  #high: number;

  constructor(sink: Sink, start: Start) {
    this.#sink = sink;
    this.#start = start;
    this.#epoch = start.epoch;
    this.#generation = start.generation;
    this.#high = start.base;
    this.limbo = new Limbo(() => {
      this.#endpoints.retire();
      start.wait();
    });
    const { sizes, base, bank } = start;
    this.#ground = { sink, limbo: this.limbo, sizes, base, bank };
    this.#tables = new PolicyTables(this.#ground);
    this.#nodes = new Nodes(sink, start.node);
    this.#services = new Services({ ...this.#ground, bank: start.serviceBank }, () => this.#nextGeneration());
    this.#shields = new Shields(sink);
    const clock = {
      nextEpoch: () => this.#nextEpoch(),
      nextGeneration: () => this.#nextGeneration(),
      judgeAgain: (peer: Address) => this.#judgePeerAgain(peer, this.#nextEpoch()),
    };
    this.#endpoints = new Endpoints(this.#ground, this.#tables, clock, start.inherited);
  }

  /** Writes what the steps say; the epoch counter last. */
  apply(steps: readonly Step[]): void {
    const dying = findDying(steps);
    for (const step of steps) this.#step(step, dying);
    this.#services.turn();
    for (const address of this.#served.splice(0)) this.#judgePeerAgain(address, this.#nextEpoch());
    this.retry();
  }

  /** Tries again what found no room: something may have been given back. */
  retry(): void {
    this.#sink.retry();
    this.#endpoints.retry(this.#tables.retry());
    this.#services.retry();
    this.#settleEpoch();
  }

  /** An element of a hash table found no room. */
  refused(table: HashName, key: Uint8Array): void {
    if (table === 'class_map') this.#tables.refused(key);
    if (table === 'address') this.#shields.raise(key);
  }

  /** One that found no room has some now, or is not wanted any more. */
  placed(table: HashName, key: Uint8Array): void {
    if (table === 'class_map') this.#tables.placed(key);
    if (table === 'address') this.#shields.lower(key);
    // Until now it was an address like others: flows to it take the long way once, where the Service is seen.
    const service = table === 'service_map' ? readServiceAddress(key) : null;
    if (service !== null) this.#judgePeerAgain(service, this.#nextEpoch());
  }

  attach(link: Link): void {
    this.#endpoints.attach(link);
    this.#settleEpoch();
  }

  detach(interfaceIndex: number): void {
    this.#endpoints.detach(interfaceIndex);
    this.#settleEpoch();
  }

  /** Gives the endpoints of an earlier process that are attached by now their new policy, all at once. */
  turn(): void {
    this.#endpoints.turn();
    this.#settleEpoch();
  }

  /** Takes away the endpoints that an earlier process left and this one does not know, and ends that one's backends. */
  settle(): void {
    this.#endpoints.settle();
    this.#services.settle();
    this.#settleEpoch();
  }

  /** Runs a batch of the limbo whose time has come, and uses the room that it gives back. */
  finish(batch: readonly (() => void)[]): void {
    this.limbo.finish(batch);
    this.retry();
  }

  /** What found no room in the kernel: whom it is about is denied until it does. */
  get lacks(): readonly Lack[] {
    const others = [...this.#sink.waiting].filter(([table]) => table !== 'class_map');
    return [
      ...this.#tables.lacks,
      ...this.#endpoints.lacks,
      ...this.#services.lacks,
      ...others.map(([table, count]) => ({ table, count, rule: null })),
    ];
  }

  /** How full the arrays are, and how many classes there are. */
  get usage(): { readonly fills: readonly Fill[]; readonly class_map: number } {
    return { fills: [...this.#tables.fills, ...this.#services.fills], class_map: this.#tables.classes };
  }

  /** Addresses of nodes that the steps named. */
  get nodes(): Pick<Nodes, 'own' | 'all'> {
    return this.#nodes;
  }

  /** Services that the steps named. */
  get services(): Services['all'] {
    return this.#services.all;
  }

  /** What may go past the stack at an uplink: UPLINK_FLAG, 0 = nothing. */
  uplink(interfaceIndex: number, flags: number): void {
    this.#way(interfaceIndex, UPLINK_FLAG.IPV4 | UPLINK_FLAG.IPV6, flags);
  }

  /** Whether every port of a bridge has hooks: then what comes out of it is believed to be its source's. */
  bridge(interfaceIndex: number, isHeld: boolean): void {
    this.#way(interfaceIndex, UPLINK_FLAG.BRIDGE, isHeld ? UPLINK_FLAG.BRIDGE : 0);
  }

  /** Addresses that this node speaks to its pods from, beside its Node's. */
  gateways(addresses: readonly Address[]): void {
    this.#nodes.setGateways(addresses);
  }

  #way(interfaceIndex: number, mask: number, flags: number): void {
    const all = ((this.#ways.get(interfaceIndex) ?? 0) & ~mask) | flags;
    const key = u32Bytes(interfaceIndex);
    if (all === 0) {
      this.#ways.delete(interfaceIndex);
      this.#sink.remove('uplink_map', key);
      return;
    }
    this.#ways.set(interfaceIndex, all);
    this.#sink.put('uplink_map', key, taggedBytes(all, interfaceIndex));
  }

  /** Interfaces that let something through. */
  get interfaces(): readonly number[] {
    return this.#endpoints.interfaces;
  }

  /** The Plan's number of a rule that the kernel names; null for none and for an earlier agent's. */
  ruleOf(kernelRule: number): number | null {
    const rule = kernelRule - 1 - this.#start.base;
    return rule < 0 ? null : rule;
  }

  #step(step: Step, dying: Dying): void {
    switch (step.kind) {
      case 'rule':
        this.#reserve(step.rule);
        this.#tables.rule(step.rule, step.value);
        break;
      case 'table':
        this.#tables.table(step.table, step.value);
        break;
      case 'layer':
        this.#reserve(step.layer);
        this.#tables.layer(step.layer, step.value);
        break;
      case 'class':
        this.#class(step, dying);
        break;
      case 'set':
        this.#tables.set(step.set, step.value);
        break;
      default:
        this.#addressStep(step);
    }
  }

  /** Steps about addresses: who they are, and what is judged for them. */
  #addressStep(step: Exclude<Step, { kind: 'rule' | 'table' | 'layer' | 'class' | 'set' }>): void {
    switch (step.kind) {
      case 'identity':
        this.#identity(step.identity, step.value);
        break;
      case 'address':
        this.#put('address', addressBytes(step.address), this.#mapped(step.value, addressTag(step.address)));
        break;
      case 'prefix':
        this.#prefix(step.cidr, step.value);
        break;
      case 'endpoint':
        this.#endpoint(step);
        break;
      case 'node':
        this.#nodes.set(step.node, step.value ?? []);
        break;
      case 'service':
        if (this.#services.set(step.at, step.value) === 'new') this.#served.push(step.at.address);
        break;
      case 'epoch':
        this.#judgeAgain(step);
        break;
    }
  }

  #class(step: Extract<Step, { kind: 'class' }>, dying: Dying): void {
    const dies = dying.layers.has(step.layer) || dying.identities.has(step.identity);
    this.#tables.class([step.layer, step.identity], step.value, dies ? 'dying' : 'stays');
  }

  #identity(number: IdentityNumber, value: { readonly unknown: boolean } | null): void {
    this.#reserve(number);
    if (value === null) this.#unknown.delete(number);
    else if ((this.#unknown.get(number) ?? value.unknown) !== value.unknown) {
      throw new StepOrderError(`identity ${number} changes whether it is unknown: it needs a new number`);
    } else this.#unknown.set(number, value.unknown);
  }

  #prefix(cidr: Cidr, value: IdentityNumber | null): void {
    const table = cidr.address.family === 4 ? 'prefix4' : 'prefix6';
    const mapped = this.#mapped(value, prefixTag(cidr));
    if (!this.#shields.holds(cidr, mapped)) this.#put(table, prefixBytes(cidr), mapped);
  }

  #mapped(identity: IdentityNumber | null, tag: number): Uint8Array | null {
    if (identity === null) return null;
    const unknown = this.#unknown.get(identity);
    if (unknown === undefined) throw new StepOrderError(`identity ${identity} is used before it is published`);
    const number = identity + this.#start.base + (unknown ? IDENTITY_UNKNOWN : 0);
    return taggedBytes(number, tag);
  }

  #put(table: HashName, key: Uint8Array, value: Uint8Array | null): void {
    if (value === null) this.#sink.remove(table, key);
    else this.#sink.put(table, key, value);
  }

  #endpoint(step: Extract<Step, { kind: 'endpoint' }>): void {
    const foreign = step.value !== null && step.value.node !== this.#start.node;
    this.#endpoints.plan(step.address, foreign ? null : step.value);
  }

  #judgeAgain(step: Extract<Step, { kind: 'epoch' }>): void {
    const epoch = this.#nextEpoch();
    // A set that is gone has no flows left.
    const sets = step.sets.filter((set) => this.#tables.hasSet(set));
    for (const set of sets) this.#sink.word('set_epoch', this.#tables.setIndex(set), epoch);
    for (const peer of step.peers) this.#judgePeerAgain(peer, epoch);
  }

  #judgePeerAgain(peer: Address, epoch: bigint): void {
    this.#sink.word('peer_epoch', addressTag(peer) % this.#start.sizes.peerEpochs, epoch);
  }

  /** The epoch that this call will end with. */
  #nextEpoch(): bigint {
    this.#bump = true;
    return this.#epoch + 1n;
  }

  #settleEpoch(): void {
    this.#endpoints.retire();
    if (!this.#bump) return;
    this.#bump = false;
    this.#epoch += 1n;
    this.#sink.state('epoch', this.#epoch);
  }

  #nextGeneration(): number {
    this.#generation += 1;
    this.#sink.state('generation', BigInt(this.#generation));
    return this.#generation;
  }

  /** Written before the number is used: a later agent starts above it. */
  #reserve(number: number): void {
    const kernel = number + this.#start.base + 1;
    if (kernel >= IDENTITY_UNKNOWN) throw new NumbersUsedUpError();
    if (kernel <= this.#high) return;
    this.#high = kernel + BLOCK;
    this.#sink.state('high', BigInt(this.#high));
  }
}

function findDying(steps: readonly Step[]): Dying {
  const layers = new Set<LayerNumber>();
  const identities = new Set<IdentityNumber>();
  for (const step of steps) {
    if (step.kind === 'layer' && step.value === null) layers.add(step.layer);
    if (step.kind === 'identity' && step.value === null) identities.add(step.identity);
  }
  return { layers, identities };
}

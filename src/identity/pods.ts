// Pods and namespaces as identity needs them: columns of shared values, pods of one namespace chained together.
import type { Labels } from '#policy/selector.ts';
import type { NamedPort, Pod, PodKey } from '#policy/world.ts';
import { NONE } from './addresses.ts';
import { Column, Rows } from './columns.ts';
import { hashNumber, hashText } from './hash.ts';
import { BY_LABELS, pairsOf } from './labels.ts';
import { RowIndex } from './row-index.ts';
import { type Keyed, Shared } from './shared.ts';

export type NamespaceEntry = { readonly name: string; labels: Labels };

const BY_NAME: Keyed<string, NamespaceEntry> = { hash: (name) => hashText(name), is: (one, name) => one.name === name };

const BY_PORTS: Keyed<readonly NamedPort[], readonly NamedPort[]> = {
  hash: (ports) => ports.reduce((hash, port) => hashPort(port, hash), 0),
  is: (ports, others) => ports.length === others.length && ports.every((port, index) => isPort(port, others[index])),
};

export class PodTable {
  readonly #rows = new Rows();
  readonly #keys: PodKey[] = [];
  readonly #hashes = new Column(0);
  readonly #index = new RowIndex((row) => this.#hashes.at(row));
  readonly #namespace = new Column(NONE);
  readonly #labels = new Column(NONE);
  readonly #ports = new Column(NONE);
  readonly #pairs = new Column(0);
  readonly #firstAddress = new Column(NONE);
  readonly #moreAddresses = new Map<number, readonly number[]>();
  readonly #next = new Column(NONE);
  readonly #previous = new Column(NONE);
  readonly #heads = new Column(NONE);
  readonly namespaces: Shared<string, NamespaceEntry> = new Shared(BY_NAME);
  readonly labelSets: Shared<Labels, Labels> = new Shared(BY_LABELS);
  readonly portSets: Shared<readonly NamedPort[], readonly NamedPort[]> = new Shared(BY_PORTS);

  find(key: PodKey): number | undefined {
    const hash = hashText(key);
    return this.#index.find(hash, (row) => this.#hashes.at(row) === hash && this.#keys[row] === key);
  }

  /** A pod that owns addresses of its own. `namespaceLabels`: what its namespace is labelled, were it new here. */
  add(pod: Pod, namespaceLabels: () => Labels): number {
    const row = this.#rows.take();
    this.#keys[row] = pod.key;
    this.#hashes.set(row, hashText(pod.key));
    this.#index.add(row);
    const { namespace, labels, ports } = pod;
    this.#namespace.set(
      row,
      this.namespaces.take(namespace, (name) => ({ name, labels: namespaceLabels() })),
    );
    this.#labels.set(row, this.#takeLabels(labels));
    this.#ports.set(row, this.portSets.take(ports, itself));
    this.#chain(row);
    return row;
  }

  #takeLabels(labels: Labels): number {
    let isNew = false;
    const number = this.labelSets.take(labels, (own) => {
      isNew = true;
      return own;
    });
    if (isNew) this.#pairs.set(number, pairsOf(labels));
    return number;
  }

  remove(row: number): void {
    this.#unchain(row);
    this.#index.delete(row);
    this.#keys[row] = '' as PodKey;
    this.namespaces.give(this.#namespace.at(row));
    this.labelSets.give(this.#labels.at(row));
    this.portSets.give(this.#ports.at(row));
    this.#namespace.set(row, NONE);
    this.setAddresses(row, []);
    this.#rows.give(row);
  }

  key(row: number): PodKey {
    return this.#keys[row] ?? ('' as PodKey);
  }

  namespace(row: number): number {
    return this.#namespace.at(row);
  }

  labels(row: number): number {
    return this.#labels.at(row);
  }

  ports(row: number): number {
    return this.#ports.at(row);
  }

  /** What of `pairMask` the labels of a label set have. */
  pairs(labels: number): number {
    return this.#pairs.at(labels);
  }

  /** The address rows of a pod. */
  addresses(row: number): readonly number[] {
    const first = this.#firstAddress.at(row);
    if (first === NONE) return [];
    const more = this.#moreAddresses.get(row);
    return more === undefined ? [first] : [first, ...more];
  }

  setAddresses(row: number, addresses: readonly number[]): void {
    this.#firstAddress.set(row, addresses[0] ?? NONE);
    if (addresses.length > 1) this.#moreAddresses.set(row, addresses.slice(1));
    else this.#moreAddresses.delete(row);
  }

  /** One past the last row. A row without a namespace is free. */
  get end(): number {
    return this.#rows.end;
  }

  /** The first pod of a namespace's chain, or NONE. */
  firstIn(namespace: number): number {
    return this.#heads.at(namespace);
  }

  nextAfter(row: number): number {
    return this.#next.at(row);
  }

  /** Every pod, in no order. */
  *values(): Generator<number> {
    for (let row = 0; row < this.#rows.end; row++) if (this.#namespace.at(row) !== NONE) yield row;
  }

  #chain(row: number): void {
    const namespace = this.#namespace.at(row);
    const head = this.#heads.at(namespace);
    this.#next.set(row, head);
    this.#previous.set(row, NONE);
    if (head !== NONE) this.#previous.set(head, row);
    this.#heads.set(namespace, row);
  }

  #unchain(row: number): void {
    const next = this.#next.at(row);
    const previous = this.#previous.at(row);
    if (next !== NONE) this.#previous.set(next, previous);
    if (previous !== NONE) this.#next.set(previous, next);
    else this.#heads.set(this.#namespace.at(row), next);
  }
}

/** Text that is equal for equal named ports. */
export function portsKey(ports: readonly NamedPort[]): string {
  return ports.map((port) => JSON.stringify([port.name, port.protocol, port.port])).join();
}

function hashPort({ name, protocol, port }: NamedPort, before: number): number {
  return hashText(name, hashNumber(((protocol + 1) << 16) | port, before));
}

function isPort(port: NamedPort, other: NamedPort | undefined): boolean {
  return port.name === other?.name && port.protocol === other.protocol && port.port === other.port;
}

function itself<Value>(value: Value): Value {
  return value;
}

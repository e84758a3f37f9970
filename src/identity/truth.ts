// What holds of each place now: lists of atoms, one number for equal lists. For looking at many places at once.
import { NONE } from './addresses.ts';
import type { AtomTable } from './atom-table.ts';
import type { AtomNumber } from './atoms.ts';
import type { Block } from './blocks.ts';
import { remember, sortedSet } from './collect.ts';
import type { Population } from './population.ts';

/** Stands for a list of atoms. */
export type ListNumber = number;

/** Valid while no event is taken and no atom comes or goes: pods that no selector tells apart are looked at once. */
export class Truth {
  readonly #population: Population;
  readonly #atoms: AtomTable;
  readonly #ipBlockPods: boolean;
  readonly #lists: (readonly AtomNumber[])[] = [];
  readonly #numbers = new Map<string, ListNumber>();
  /** By label set: one that says the same to every selector. */
  readonly #alike = new Map<number, number>();
  readonly #firstOf = new Map<string, number>();
  /** Pods of one namespace with labels alike and the same ports: a number for them, and what holds of them. */
  readonly #kinds = new Map<number, number>();
  readonly #ofKind: (readonly AtomNumber[])[] = [];
  readonly #blocks = new Map<Block, number>();
  readonly #ofBlock: (readonly AtomNumber[])[] = [];
  /** By kind and block; a kind of 0 is no pod, a block of 0 none that counts. */
  readonly #ofBoth = new Map<number, ListNumber>();

  constructor(population: Population, atoms: AtomTable, ipBlockPods: boolean) {
    this.#population = population;
    this.#atoms = atoms;
    this.#ipBlockPods = ipBlockPods;
  }

  list(number: ListNumber): readonly AtomNumber[] {
    return this.#lists[number] ?? [];
  }

  ofRow(row: number): ListNumber {
    const { addresses, blocks } = this.#population;
    const owner = addresses.owner(row);
    const kind = owner === NONE ? 0 : this.#kindOf(owner);
    const counts = owner === NONE || this.#ipBlockPods;
    const block = counts ? this.#blockNumber(blocks.around(addresses.address(row))) : 0;
    return remember(this.#ofBoth, block * 2 ** 26 + kind, () => {
      const [selected, placed] = [this.#ofKind[kind - 1] ?? [], this.#ofBlock[block - 1] ?? []];
      return this.numberOf(placed.length === 0 ? selected : sortedSet([...selected, ...placed]));
    });
  }

  numberOf(atoms: readonly AtomNumber[]): ListNumber {
    return remember(this.#numbers, atoms.join(), () => this.#lists.push(atoms) - 1);
  }

  #kindOf(pod: number): number {
    const { pods } = this.#population;
    const [namespace, labels, ports] = [pods.namespace(pod), this.#labelsLike(pods.labels(pod)), pods.ports(pod)];
    const key = (namespace * pods.labelSets.end + labels) * pods.portSets.end + ports;
    return remember(this.#kinds, key, () => {
      const { namespaces, labelSets, portSets } = pods;
      return this.#ofKind.push(this.#atoms.ofPod(namespaces.at(namespace), labelSets.at(labels), portSets.at(ports)));
    });
  }

  #labelsLike(labels: number): number {
    return remember(this.#alike, labels, () => {
      const answers = this.#atoms.answers(this.#population.pods.labelSets.at(labels));
      return remember(this.#firstOf, answers, () => labels);
    });
  }

  #blockNumber(block: Block): number {
    return remember(this.#blocks, block, () => {
      const { address, length } = block.cidr;
      return this.#ofBlock.push(this.#population.blocks.at(address, length).atoms);
    });
  }
}

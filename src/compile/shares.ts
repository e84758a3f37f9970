// What the layers of one namespace's pods may take of a node's tables. Whoever writes policies there takes room and time
// from nobody else: a peer for whom none is left is denied by the policies of that namespace, and by no others.

/** What is counted of a namespace's layers. */
export type Taken = {
  /** Entries of all its port tables, as a kernel keeps them: a head, and a start for each interval and each gap. */
  readonly entries: number;
  /** Port ranges of the rules that its tables are made of, each as often as it is in one. */
  readonly ranges: number;
  /** Peers that have a table in a layer. */
  readonly classes: number;
};

/**
 * One namespace's share of a node: what a million rules need, and it leaves others a sixteenth of the kernel's arena (in
 * which a table may take a third more than it has entries) and of its places for classes.
 */
export const NODE_SHARE: Taken = { entries: 360 << 10, ranges: 1 << 23, classes: 480 << 10 };

const ALL = ['entries', 'ranges', 'classes'] as const;

/** What one namespace has taken. */
export class Share {
  readonly namespace: string;
  readonly limits: Taken;
  readonly #taken: { -readonly [what in keyof Taken]: number } = { entries: 0, ranges: 0, classes: 0 };
  /** How many layers take from it. */
  layers = 0;
  #gave = false;
  /** What did not suffice for the last table, until something is given back: the next one is not even tried. */
  #short: keyof Taken | null = null;

  constructor(namespace: string, limits: Taken) {
    this.namespace = namespace;
    this.limits = limits;
  }

  /** True while somebody takes from it, or has what was taken. */
  get isInUse(): boolean {
    return this.layers > 0 || ALL.some((what) => this.#taken[what] > 0);
  }

  /** What is used up; null where there is room for more. */
  get spent(): keyof Taken | null {
    return this.#short ?? this.#firstBeyond(-1);
  }

  /** True where more was taken than there is: whoever took it last has to give it back. */
  isOverdrawn(): boolean {
    const what = this.#firstBeyond(0);
    if (what !== null) this.#short = what;
    return what !== null;
  }

  take(what: Partial<Taken>): void {
    this.#add(what, 1);
  }

  give(what: Partial<Taken>): void {
    this.#add(what, -1);
    this.#gave = true;
    this.#short = null;
  }

  /** Gives back what was taken beyond the share: that makes no room. */
  undo(what: Partial<Taken>): void {
    this.#add(what, -1);
  }

  /** True where something was given back since the last call. */
  gaveBack(): boolean {
    const gave = this.#gave;
    this.#gave = false;
    return gave;
  }

  /** What more is taken of than its limit and so much. Asked for each class: a function for `find` would be garbage each time. */
  #firstBeyond(more: number): keyof Taken | null {
    for (let at = 0; at < ALL.length; at++) {
      const what = ALL[at] as keyof Taken;
      if (this.#taken[what] > this.limits[what] + more) return what;
    }
    return null;
  }

  #add({ entries = 0, ranges = 0, classes = 0 }: Partial<Taken>, sign: 1 | -1): void {
    this.#taken.entries += sign * entries;
    this.#taken.ranges += sign * ranges;
    this.#taken.classes += sign * classes;
  }
}

export class Shares {
  readonly #limits: Taken;
  readonly #byNamespace = new Map<string, Share>();

  constructor(limits: Taken) {
    this.#limits = limits;
  }

  of(namespace: string): Share {
    const found = this.#byNamespace.get(namespace);
    if (found !== undefined) return found;
    const share = new Share(namespace, this.#limits);
    this.#byNamespace.set(namespace, share);
    return share;
  }

  /** How many there are. */
  get size(): number {
    return this.#byNamespace.size;
  }

  /** Forgets those that nobody uses: namespaces come and go. */
  sweep(): void {
    for (const [namespace, share] of this.#byNamespace) if (!share.isInUse) this.#byNamespace.delete(namespace);
  }
}

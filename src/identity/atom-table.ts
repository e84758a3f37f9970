// The atoms in use: counted, and indexed so that a pod asks only those that can be true of it.
import type { Labels } from '#policy/selector.ts';
import type { NamedPort } from '#policy/world.ts';
import { AskedLabels } from './asked-labels.ts';
import {
  type Atom,
  type AtomNumber,
  type AtomSpec,
  atomKey,
  makeAtom,
  type PortAtom,
  type Resolution,
  type SelectorAtom,
} from './atoms.ts';
import { remember, sortedSet } from './collect.ts';
import type { NamespaceEntry } from './pods.ts';
import { SelectorIndex } from './selector-index.ts';

type Use = { readonly key: string; readonly atom: Atom; uses: number };

export class AtomTable {
  readonly #byKey = new Map<string, Use>();
  readonly #byNumber = new Map<AtomNumber, Use>();
  readonly #fresh = new Set<Use>();
  readonly #unused = new Set<Use>();
  /** Selectors of pods in one namespace, by its name. */
  readonly #named = new Map<string, SelectorIndex<SelectorAtom>>();
  /** Selectors of pods in namespaces with labels, by the pods' labels; those for all their pods by the namespaces'. */
  readonly #labelled = new SelectorIndex<SelectorAtom>();
  readonly #whole = new SelectorIndex<SelectorAtom>();
  readonly #asked = new AskedLabels();
  readonly #ports = new Map<string, PortAtom>();
  readonly #resolutions = new Map<AtomNumber, Resolution>();
  #next = 1;

  /** How many atoms are new. */
  get fresh(): number {
    return this.#fresh.size;
  }

  isInUse(number: AtomNumber): boolean {
    return (this.#byNumber.get(number)?.uses ?? 0) > 0;
  }

  /** One more use of an atom. It counts from the next `takeFresh` on. */
  acquire(spec: AtomSpec): AtomNumber {
    const key = atomKey(spec);
    let use = this.#byKey.get(key);
    if (use === undefined) {
      use = { key, atom: makeAtom(spec, this.#next++), uses: 0 };
      this.#byKey.set(key, use);
      this.#byNumber.set(use.atom.number, use);
      this.#fresh.add(use);
    }
    use.uses++;
    return use.atom.number;
  }

  release(number: AtomNumber): void {
    const use = this.#byNumber.get(number);
    if (use === undefined) return;
    use.uses--;
    if (use.uses === 0) this.#unused.add(use);
  }

  /** Atoms that count from now on. */
  takeFresh(): readonly Atom[] {
    const fresh = [...this.#fresh].filter((use) => use.uses > 0).map((use) => use.atom);
    for (const atom of fresh) this.#index(atom);
    for (const use of this.#fresh) if (use.uses === 0) this.#forget(use);
    this.#fresh.clear();
    return fresh;
  }

  /** Atoms that nothing uses any more; from now on they count no longer. */
  takeDead(): readonly Atom[] {
    const dead = [...this.#unused].filter((use) => use.uses === 0 && this.#byKey.get(use.key) === use);
    this.#unused.clear();
    for (const use of dead) {
      this.#forget(use);
      this.#unindex(use.atom);
    }
    return dead.map((use) => use.atom);
  }

  #forget(use: Use): void {
    this.#byKey.delete(use.key);
    this.#byNumber.delete(use.atom.number);
  }

  /** The atoms by selector and by named port that are true of a pod, ascending. */
  ofPod(namespace: NamespaceEntry, labels: Labels, ports: readonly NamedPort[]): readonly AtomNumber[] {
    const found: AtomNumber[] = [];
    const inNamed = (atom: SelectorAtom): void => {
      if (atom.podTest(labels)) found.push(atom.number);
    };
    const inLabelled = (atom: SelectorAtom): void => {
      if (atom.podTest(labels) && atom.namespaceTest(namespace.labels)) found.push(atom.number);
    };
    this.#named.get(namespace.name)?.candidates(labels, inNamed);
    this.#labelled.candidates(labels, inLabelled);
    this.#whole.candidates(namespace.labels, inLabelled);
    for (const port of ports) {
      const atom = this.#ports.get(portKey(port));
      if (atom !== undefined) found.push(this.resolve(atom, port.port));
    }
    return sortedSet(found);
  }

  /** Equal for labels that make no difference to any atom, as long as none comes or goes. */
  answers(labels: Labels): string {
    return this.#asked.answers(labels);
  }

  /** The atom of a named port that has this number on some pod. */
  resolve(port: PortAtom, value: number): AtomNumber {
    const found = port.resolutions.get(value);
    if (found !== undefined) return found;
    const number = this.#next++;
    port.resolutions.set(value, number);
    this.#resolutions.set(number, { port: port.number, value });
    return number;
  }

  /** What a resolution atom stands for; undefined for other atoms. */
  resolution(number: AtomNumber): Resolution | undefined {
    return this.#resolutions.get(number);
  }

  /** The resolution atoms of a named port. */
  resolutionsOf(port: AtomNumber): readonly AtomNumber[] {
    const atom = this.#byNumber.get(port)?.atom;
    return atom?.kind === 'port' ? [...atom.resolutions.values()] : [];
  }

  #index(atom: Atom): void {
    if (atom.kind === 'port') this.#ports.set(portKey(atom), atom);
    if (atom.kind !== 'pods') return;
    this.#asked.add(atom.pods);
    const { namespaces } = atom;
    if (namespaces.kind === 'named') {
      remember(this.#named, namespaces.name, () => new SelectorIndex<SelectorAtom>()).add(atom.pods, atom);
    } else if (atom.pods.requirements.length > 0) this.#labelled.add(atom.pods, atom);
    else this.#whole.add(namespaces.selector, atom);
  }

  #unindex(atom: Atom): void {
    if (atom.kind === 'pods') {
      this.#asked.remove(atom.pods);
      const { namespaces } = atom;
      if (namespaces.kind === 'named') this.#removeNamed(namespaces.name, atom);
      else if (atom.pods.requirements.length > 0) this.#labelled.remove(atom.pods, atom);
      else this.#whole.remove(namespaces.selector, atom);
    }
    if (atom.kind !== 'port') return;
    this.#ports.delete(portKey(atom));
    for (const number of atom.resolutions.values()) this.#resolutions.delete(number);
  }

  #removeNamed(name: string, atom: SelectorAtom): void {
    const index = this.#named.get(name);
    index?.remove(atom.pods, atom);
    if (index?.isEmpty) this.#named.delete(name);
  }
}

function portKey(port: { readonly protocol: number; readonly name: string }): string {
  return `${port.protocol} ${port.name}`;
}

// Hooks of a new interface that do not wait for the kernel. A tcx link waits for a grace period, with the lock held that
// every change of any interface needs; a filter does not. So a new interface has filters first, which judge the same, and
// links once there is time for them.
import { QueueTaken } from '#kernel/tc.ts';
import { ClsactHooks, dropFilters } from './clsact-hooks.ts';
import type { HookSetup, HookView, StagedHooks } from './hooks.ts';
import { TcxHooks } from './tcx-hooks.ts';

export class FiltersThenLinks implements StagedHooks {
  readonly #setup: HookSetup;
  readonly #links: TcxHooks;
  readonly #filters: ClsactHooks;
  /** Interfaces that have filters yet. */
  readonly #early = new Set<number>();

  constructor(setup: HookSetup) {
    this.#setup = setup;
    this.#links = new TcxHooks(setup);
    this.#filters = new ClsactHooks(setup);
  }

  attachNew(interfaceIndex: number): void {
    try {
      this.#filters.attach(interfaceIndex);
      this.#early.add(interfaceIndex);
    } catch (error) {
      if (!(error instanceof QueueTaken)) throw error;
      // Links need no queue, and go beside another's.
      this.attach(interfaceIndex);
    }
  }

  get early(): ReadonlySet<number> {
    return this.#early;
  }

  attach(interfaceIndex: number): void {
    const isEarly = this.#early.delete(interfaceIndex);
    try {
      this.#links.attach(interfaceIndex);
    } catch (error) {
      if (isEarly) this.#early.add(interfaceIndex);
      throw error;
    }
    if (isEarly) this.#filters.detach(interfaceIndex);
    else dropFilters(this.#setup, interfaceIndex);
  }

  stands(interfaceIndex: number): boolean {
    return this.#links.stands(interfaceIndex) || this.#filters.stands(interfaceIndex);
  }

  detach(interfaceIndex: number): void {
    if (this.#early.delete(interfaceIndex)) this.#filters.detach(interfaceIndex);
    else dropFilters(this.#setup, interfaceIndex);
    this.#links.detach(interfaceIndex);
  }

  look(interfaceIndex: number, isPinned?: (path: string) => boolean): HookView {
    return (this.#early.has(interfaceIndex) ? this.#filters : this.#links).look(interfaceIndex, isPinned);
  }

  /** Filters that somebody touched become links: only those get ahead of another's link. */
  repair(interfaceIndex: number): void {
    if (this.#early.has(interfaceIndex)) this.attach(interfaceIndex);
    else this.#links.repair(interfaceIndex);
  }

  forgetGone(): void {
    this.#links.forgetGone();
    this.#filters.forgetGone();
  }

  close(): void {
    this.#links.close();
    this.#filters.close();
    this.#early.clear();
  }
}

// A node's state whose process stands still after a call that a test names, so that it is killed at that very place.
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { NodeState } from '#agent/node-state.ts';
import { KernelTables } from '#datapath/ebpf/writer.ts';

/** After so many of these calls, counted from when it was asked for. `write`: whatever packets may find in a table. */
export type Halt = { readonly call: 'apply' | 'advance' | 'attach' | 'turn' | 'write'; readonly times: number };

/** All that writes to the kernel: `changing` is around each system call that does. */
const WRITES = ['record', 'word', 'live', 'mark', 'state', 'changing'] as const;

/** Asks the process with this folder to stand still. */
export function askForHalt(folder: string, halt: Halt): void {
  rmSync(doneFile(folder), { force: true });
  writeFileSync(askFile(folder), JSON.stringify(halt));
}

/** Takes that back, where it has not come to it. */
export function askNoMore(folder: string): void {
  rmSync(askFile(folder), { force: true });
}

/** True once it does. */
export function isHalted(folder: string): boolean {
  return existsSync(doneFile(folder));
}

export class HaltingState extends NodeState {
  readonly #folder: string;
  #calls = 0;

  constructor(folder: string, ...parts: ConstructorParameters<typeof NodeState>) {
    super(...parts);
    this.#folder = folder;
    this.#watchWrites();
  }

  override apply(...change: Parameters<NodeState['apply']>): ReturnType<NodeState['apply']> {
    return this.#after('apply', super.apply(...change));
  }

  override advance(): ReturnType<NodeState['advance']> {
    return this.#after('advance', super.advance());
  }

  override attach(...link: Parameters<NodeState['attach']>): void {
    this.#after('attach', super.attach(...link));
  }

  override turn(): void {
    this.#after('turn', super.turn());
  }

  /** The process has no other tables than this state's. */
  #watchWrites(): void {
    const after = (): void => void this.#after('write', null);
    for (const name of WRITES) {
      const write = KernelTables.prototype[name] as (...args: unknown[]) => void;
      const halting = function (this: KernelTables, ...args: unknown[]): void {
        write.apply(this, args);
        after();
      };
      Object.defineProperty(KernelTables.prototype, name, { value: halting });
    }
  }

  #after<Value>(call: Halt['call'], value: Value): Value {
    const path = askFile(this.#folder);
    if (!existsSync(path)) return value;
    const halt = JSON.parse(readFileSync(path, 'utf8')) as Halt;
    if (halt.call !== call || ++this.#calls < halt.times) return value;
    rmSync(path);
    writeFileSync(doneFile(this.#folder), '');
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    return value;
  }
}

const askFile = (folder: string): string => join(folder, 'halt');
const doneFile = (folder: string): string => join(folder, 'halted');

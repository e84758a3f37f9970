// The folder where the CNI plugin leaves DELs while no agent answers: each is done once there is one, and then forgotten.
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { strangeFolder } from '#kernel/own-folder.ts';
import type { CniCall, CniReply } from './protocol.ts';
import { readRequest } from './request.ts';

export class CniSpool {
  readonly #folder: string;
  readonly #tell: (problem: string) => void;
  #working: Promise<void> | null = null;

  /** Throws where others can look into the folder, or change it. */
  constructor(folder: string, tell: (problem: string) => void) {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const strange = strangeFolder(folder, 0o077);
    if (strange !== null) throw new Error(`${strange}: remove it, and start again`);
    this.#folder = folder;
    this.#tell = tell;
  }

  /** Does what is there, one after the other. What fails stays for the next time. */
  async workOff(answer: (call: CniCall) => Promise<CniReply>): Promise<void> {
    this.#working ??= this.#work(answer).finally(() => {
      this.#working = null;
    });
    await this.#working;
  }

  async #work(answer: (call: CniCall) => Promise<CniReply>): Promise<void> {
    // What begins with a dot is still being written, or its writer was killed.
    for (const file of this.#files().filter((name) => !name.startsWith('.'))) {
      const path = join(this.#folder, file);
      const call = this.#read(path);
      const reply = call === null ? null : await answer(call);
      if (reply?.exit === 1)
        this.#tell(`a DEL that came while the agent was away fails: ${JSON.stringify(reply.output)}`);
      else this.#remove(path);
    }
  }

  #remove(path: string): void {
    try {
      rmSync(path, { force: true });
    } catch (error) {
      this.#tell(`${path} can't be removed: ${textOf(error)}`);
    }
  }

  /** Empty where the folder can't be read, which is told. */
  #files(): readonly string[] {
    try {
      return readdirSync(this.#folder);
    } catch (error) {
      this.#tell(`DELs may wait in ${this.#folder}, which can't be read: ${textOf(error)}`);
      return [];
    }
  }

  /** Null for what no plugin writes: it is told of, and forgotten, since it can never be done. */
  #read(path: string): CniCall | null {
    try {
      const request = readRequest(JSON.parse(readFileSync(path, 'utf8')));
      if (request.method === 'cni' && request.call.command === 'DEL') return request.call;
      this.#tell(`${path} is no DEL: it is removed`);
    } catch (error) {
      this.#tell(`${path} can't be read: ${textOf(error)}; it is removed`);
    }
    return null;
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

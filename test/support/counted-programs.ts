// The kernel programs, built aside with a store in each branch: which branches packets went through.
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { handleOf, lookupElement } from '#kernel/bpf.ts';
import { type Branch, instrument } from './instrument-c.ts';

const ROOT = join(import.meta.dirname, '../..');
/** What holds nothing but declarations. */
const PLAIN = ['abi.h', 'maps.h'];
/** With so many stores in between, clang spills words that nobody wrote yet, which verifiers refuse. */
const ZEROED = '-ftrivial-auto-var-init=zero -enable-trivial-auto-var-init-zero-knowing-it-will-be-removed-from-clang';

export class CountedPrograms {
  /** The built object. */
  readonly object: string;
  readonly branches: readonly Branch[];
  readonly #folder: string;
  readonly #size: number;

  constructor() {
    this.#folder = mkdtempSync(join(tmpdir(), 'moat-counted-'));
    const bpf = join(this.#folder, 'bpf');
    cpSync(join(ROOT, 'bpf'), bpf, { recursive: true });
    mkdirSync(join(this.#folder, 'tools'));
    const build = join(this.#folder, 'tools/build-bpf.sh');
    writeFileSync(build, readFileSync(join(ROOT, 'tools/build-bpf.sh'), 'utf8').replace('-O2', `-O2 ${ZEROED}`));
    const branches: Branch[] = [];
    for (const file of readdirSync(bpf).filter((name) => /\.[ch]$/.test(name) && !PLAIN.includes(name))) {
      const path = join(bpf, file);
      writeFileSync(path, instrument(file, readFileSync(path, 'utf8'), branches));
    }
    this.branches = branches;
    // A size that no other map has, by which the store is found again.
    this.#size = Math.ceil((branches.length + 1) / 8) * 8 + 4096;
    const main = join(bpf, 'moat.bpf.c');
    const declaration = `volatile unsigned char branch_taken[${this.#size}] __attribute__((section(".bss.branches")))`;
    writeFileSync(main, `${declaration};\n${readFileSync(main, 'utf8')}`);
    execFileSync('sh', [build], { stdio: ['ignore', 'ignore', 'pipe'] });
    this.object = join(this.#folder, 'build/bpf/moat.bpf.o');
  }

  /** The branches that no packet went through in any of the datapaths that this process has open. */
  missed(): readonly Branch[] {
    const stores = readdirSync('/proc/self/fdinfo').flatMap((fd) => this.#store(Number(fd)) ?? []);
    if (stores.length === 0) throw new Error('no datapath of counted programs is open');
    return this.branches.filter((_, index) => stores.every((store) => store[index] === 0));
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true });
  }

  #store(fd: number): Uint8Array | null {
    if (!isMapOf(fd, this.#size)) return null;
    const store = new Uint8Array(this.#size);
    lookupElement(handleOf(fd), new Uint8Array(4), store);
    return store;
  }
}

function isMapOf(fd: number, size: number): boolean {
  try {
    return readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8').includes(`value_size:\t${size}\n`);
  } catch {
    // The descriptor of the listing itself is closed by now.
    return false;
  }
}

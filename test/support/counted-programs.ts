// The kernel programs, built aside with a store in each branch: which branches packets went through.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { handleOf, lookupElement } from '#kernel/bpf.ts';
import { type Branch, instrument } from './instrument-c.ts';
import { buildAside } from './programs-aside.ts';

/** What holds nothing but declarations. */
const PLAIN = ['abi.h', 'maps.h', 'node_maps.h', 'service_abi.h'];

/** Stores, with registers that are free at once: kept in some over a function, they cost the stack that these programs have left. */
const TAKE = `
#define TAKE(branch) do { \\
	unsigned long at, one; \\
	asm volatile("%0 = branch_taken ll\\n%1 = 1\\n*(u8 *)(%0 + " #branch ") = %1" : "=&r"(at), "=&r"(one)); \\
} while (0)`;

export class CountedPrograms {
  /** The built object. */
  readonly object: string;
  readonly branches: readonly Branch[];
  readonly remove: () => void;
  readonly #size: number;

  constructor() {
    const branches: Branch[] = [];
    let size = 0;
    const { object, remove } = buildAside((bpf) => {
      for (const file of readdirSync(bpf).filter((name) => /\.[ch]$/.test(name) && !PLAIN.includes(name))) {
        const path = join(bpf, file);
        writeFileSync(path, instrument(file, readFileSync(path, 'utf8'), branches));
      }
      // A size that no other map has, by which the store is found again.
      size = Math.ceil((branches.length + 1) / 8) * 8 + 4096;
      const declaration = `unsigned char branch_taken[${size}] __attribute__((section(".bss.branches"), used)); ${TAKE}`;
      for (const name of readdirSync(bpf).filter((each) => each.endsWith('.bpf.c'))) {
        const path = join(bpf, name);
        writeFileSync(path, `${declaration}\n${readFileSync(path, 'utf8')}`);
      }
    });
    this.object = object;
    this.remove = remove;
    this.branches = branches;
    this.#size = size;
  }

  /** The branches that no packet went through in any of the datapaths that this process has open. */
  missed(): readonly Branch[] {
    const stores = readdirSync('/proc/self/fdinfo').flatMap((fd) => this.#store(Number(fd)) ?? []);
    if (stores.length === 0) throw new Error('no datapath of counted programs is open');
    return this.branches.filter((_, index) => stores.every((store) => store[index] === 0));
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

// Somebody else's tc programs, built aside: one lets everything go on and counts the IPv4 packets that it saw and that have
// some mark, or any; one marks all packets.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { handleOf, lookupElement } from '#kernel/bpf.ts';
import { type LoadedObject, loadObject } from '#kernel/object.ts';

/** -1: whoever stands behind it is asked next (TCX_NEXT, TC_ACT_UNSPEC). */
const sourceOf = (condition: string): string => `
#include <linux/bpf.h>
volatile unsigned long long seen;
__attribute__((section("tc"), used)) int witness(struct __sk_buff *skb)
{
	if (skb->protocol == __builtin_bswap16(0x0800) && (${condition}))
		__sync_fetch_and_add(&seen, 1);
	return -1;
}
__attribute__((section("tc"), used)) int marker(struct __sk_buff *skb)
{
	skb->mark = 0x77;
	return -1;
}
char _license[] __attribute__((section("license"), used)) = "GPL";
`;

/** Needs a compiler, as what needs the programs' sources does. */
export class Witness {
  readonly #object: LoadedObject;

  /** `of`: which packets it counts. */
  constructor(of: 'all' | 'marked' = 'all') {
    const folder = mkdtempSync(join(tmpdir(), 'moat-witness-'));
    try {
      const path = join(folder, 'witness.o');
      const headers = ['-idirafter', `/usr/include/${process.arch === 'x64' ? 'x86_64' : 'aarch64'}-linux-gnu`];
      const options = ['-O2', '-g', '-target', 'bpf', '-mcpu=v3', ...headers, '-xc', '-c', '-', '-o', path];
      execFileSync('clang', options, { input: sourceOf(of === 'all' ? '1' : 'skb->mark') });
      this.#object = loadObject({
        ...{ path, programs: ['witness', 'marker'], sizes: new Map() },
        ...{ pinPath: () => null, knobs: () => undefined },
      });
    } finally {
      rmSync(folder, { recursive: true });
    }
  }

  get program(): number {
    return this.#program('witness');
  }

  /** The program that marks all packets. */
  get marker(): number {
    return this.#program('marker');
  }

  #program(name: string): number {
    const found = this.#object.programs.get(name);
    if (found === undefined) throw new Error('no program');
    return found;
  }

  /** Its map: an array of one element, a number of 8 bytes. */
  get store(): number {
    const found = [...this.#object.maps].find(([name]) => name.endsWith('.bss'))?.[1].fd;
    if (found === undefined) throw new Error('no store');
    return found;
  }

  /** How many packets it saw by now. */
  seen(): number {
    const value = Buffer.alloc(8);
    lookupElement(handleOf(this.store), Buffer.alloc(4), value);
    return Number(value.readBigUInt64LE());
  }

  close(): void {
    this.#object.close();
  }
}

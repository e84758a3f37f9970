// What writers of rule lists share: short names for long ones, and the text that ipset and iptables-restore read.
import { createHash } from 'node:crypto';

/** What a node needs: sets first, in parts for `ipset restore`, then rules, as `iptables-restore` reads them. */
export type RuleText = { readonly sets: readonly string[]; readonly rules: string };

/** One run of ipset looks through all sets that it has seen, for each line: many short runs are quicker than a long one. */
const SETS_A_RUN = 500;

/** A name of `length` characters that stands for a text. */
export function shortName(text: string, length = 16): string {
  return createHash('sha256').update(text).digest('hex').slice(0, length).toUpperCase();
}

/** Sets by name: each is written once, whoever asks for it. */
export class SetList {
  readonly #parts: string[][] = [];
  readonly #names: Set<string> = new Set();

  /** `options`: the set's type and what follows it. `entry`: what follows each member. */
  add(name: string, options: string, members: readonly string[], entry = ''): string {
    if (this.#names.has(name)) return name;
    if (this.#names.size % SETS_A_RUN === 0) this.#parts.push([]);
    this.#names.add(name);
    const lines = this.#parts.at(-1);
    lines?.push(`create ${name} ${options}`);
    for (const member of new Set(members)) lines?.push(`add ${name} ${member}${entry}`);
    return name;
  }

  get text(): readonly string[] {
    return this.#parts.map((lines) => `${lines.join('\n')}\n`);
  }
}

/** The filter table: chains are declared as they are first written to. */
export class FilterTable {
  readonly #chains: Set<string> = new Set(['FORWARD']);
  readonly #rules: string[] = [];

  chain(name: string): void {
    this.#chains.add(name);
  }

  rule(chain: string, text: string): void {
    this.#chains.add(chain);
    this.#rules.push(`-A ${chain} ${text}`);
  }

  get text(): string {
    const chains = [...this.#chains].map((name) => (name === 'FORWARD' ? ':FORWARD ACCEPT [0:0]' : `:${name} - [0:0]`));
    return ['*filter', ...chains, ...this.#rules, 'COMMIT', ''].join('\n');
  }
}

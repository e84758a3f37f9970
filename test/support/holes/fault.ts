// A hole that a rule of the datapath closes, and the fault that opens it again.

/** In a file of the project, this text becomes that. */
export type Fault = { readonly file: string; readonly from: string; readonly to: string };

export type Hole = {
  /** The rule, as docs/testing.md has it. */
  readonly rule: string;
  readonly file: string;
  /** A part of the test's name. */
  readonly test: string;
  readonly faults: readonly Fault[];
};

/** One fault in bpf/. */
export function inPrograms(file: string, from: string, to: string): Fault {
  return { file: `bpf/${file}`, from, to };
}

export function inSources(file: string, from: string, to: string): Fault {
  return { file: `src/${file}`, from, to };
}

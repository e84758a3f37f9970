// What a run of the e2e suite comes to: its report held against the table of exceptions.

/** One test, as it ended. `reason`: why it failed or skipped itself, by its own words. */
export type Spec = {
  readonly name: string;
  /** `skipped`: by itself, as it ran; `not run`: at our bidding. */
  readonly state: 'passed' | 'failed' | 'skipped' | 'not run';
  readonly reason: string;
  readonly seconds: number;
};

export type Exception = {
  /** A part of the names of these tests, which no others have. */
  readonly test: string;
  /** How they end. */
  readonly state: Exclude<Spec['state'], 'passed'>;
  readonly reason: string;
  /** By chance some of them pass, or all: neither is a problem. */
  readonly mayPass?: true;
  /** Only where the kernel lacks this. */
  readonly without?: 'SCTP';
};

/** What of Ginkgo's JSON report is read. */
type Report = readonly {
  readonly SpecReports:
    | readonly {
        readonly ContainerHierarchyTexts: readonly string[] | null;
        readonly LeafNodeText: string;
        readonly LeafNodeType: string;
        /** `passed`, `failed`, `skipped`, and some that are failures: `panicked`, `timedout`, `interrupted`, `aborted`. */
        readonly State: string;
        /** Nanoseconds. */
        readonly RunTime: number;
        readonly Failure?: { readonly Message?: string };
      }[]
    | null;
}[];

/** The tests in a focus, and steps before and after all tests where they failed: each counts as a test of that name. */
export function specsOf(report: unknown, focus: RegExp): readonly Spec[] {
  const all = (report as Report).flatMap(({ SpecReports }) => SpecReports ?? []);
  const specs = all.map(({ ContainerHierarchyTexts, LeafNodeText, LeafNodeType, State, RunTime, Failure }) => {
    const name = [...(ContainerHierarchyTexts ?? []), LeafNodeText || `[${LeafNodeType}]`].join(' ');
    const reason = (Failure?.Message ?? '').split('\n')[0] ?? '';
    const spec: Spec = { name, state: stateOf(State, reason), reason, seconds: RunTime / 1e9 };
    return { spec, counts: LeafNodeType === 'It' ? focus.test(name) : spec.state === 'failed' };
  });
  return specs.filter(({ counts }) => counts).map(({ spec }) => spec);
}

/** Ginkgo knows more ways to fail; what it was told to leave out is skipped without a reason. */
function stateOf(state: string, reason: string): Spec['state'] {
  if (state === 'passed') return 'passed';
  if (state !== 'skipped') return 'failed';
  return reason === '' ? 'not run' : 'skipped';
}

export type Judgement = {
  readonly passed: readonly Spec[];
  /** As the table expects them. */
  readonly excepted: readonly (Spec & { readonly exception: Exception })[];
  /** What nobody expects: each is a line for people. */
  readonly problems: readonly string[];
};

/** Holds tests against the table. `whole`: all tests of the table were to run, so that an entry without a test is a problem. */
export function judge(specs: readonly Spec[], exceptions: readonly Exception[], whole: boolean): Judgement {
  const judged = specs.map((spec) => ({ spec, exception: exceptions.find(({ test }) => spec.name.includes(test)) }));
  const unknown = exceptions.filter(({ test }) => whole && !specs.some(({ name }) => name.includes(test)));
  return {
    passed: specs.filter(({ state }) => state === 'passed'),
    excepted: judged.flatMap(({ spec, exception }) =>
      exception !== undefined && exception.state === spec.state ? [{ ...spec, exception }] : [],
    ),
    problems: [
      ...judged.flatMap(({ spec, exception }) => problemOf(spec, exception)),
      ...unknown.map(({ test }) => `of the table, but no test that ran: ${test}`),
    ],
  };
}

function problemOf({ name, state, reason }: Spec, exception: Exception | undefined): readonly string[] {
  if (state === exception?.state) return [];
  if (state === 'passed')
    return exception === undefined || exception.mayPass ? [] : [`passes, and is in the table of exceptions: ${name}`];
  return [`${state}: ${name}: ${reason}`];
}

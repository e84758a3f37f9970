// The suite's small node: three pods, two nodes, a pod elsewhere, an outside; rules as text; one line a packet.
import assert from 'node:assert/strict';
import type { Audit, IdentityNumber, LayerNumber, RuleNumber, SetNumber, Step, TableNumber } from '#compile/plan.ts';
import { type Address, parseAddress } from '#net/address.ts';
import { parseCidr } from '#net/cidr.ts';
import type { Direction } from '#policy/model.ts';
import { podKey } from '#policy/world.ts';
import { concat } from '../packets.ts';
import type { Harness, Judged, Met, Sender } from './harness.ts';
import { layerTables, type RuleLine, ruleInfo } from './tables.ts';

/** Addresses of one family, by name. */
export type Names = {
  readonly family: 4 | 6;
  readonly a: string;
  readonly b: string;
  readonly c: string;
  /** A pod of another node. */
  readonly remote: string;
  /** In a pod block, but no known pod has it. */
  readonly unlearnt: string;
  readonly outside: string;
  /** In the same blocks, but no pod's. */
  readonly service: string;
  readonly node: string;
  readonly otherNode: string;
};

export const IPV4: Names = {
  family: 4,
  a: '10.1.0.1',
  b: '10.1.0.2',
  c: '10.1.0.3',
  remote: '10.2.0.5',
  unlearnt: '10.2.0.77',
  outside: '203.0.113.9',
  service: '10.96.0.1',
  node: '192.168.0.1',
  otherNode: '192.168.0.2',
};

export const IPV6: Names = {
  family: 6,
  a: 'fd00:1::1',
  b: 'fd00:1::2',
  c: 'fd00:1::3',
  remote: 'fd00:2::5',
  unlearnt: 'fd00:2::77',
  outside: '2001:db8::9',
  service: 'fd00:96::1',
  node: 'fd99::1',
  otherNode: 'fd99::2',
};

export type PodName = 'a' | 'b' | 'c';
export const PODS: readonly PodName[] = ['a', 'b', 'c'];

/**
 * `from a`: a sends it. `to b`: it reaches b's interface, from the pod that has the source address where one here has,
 * `by stack`: made by this node's own, `from afar`: whatever its source says.
 */
export type Place = `from ${PodName}` | `to ${PodName}` | `to ${PodName} by stack` | `to ${PodName} from afar`;

const NAMES = ['world4', 'world6', 'a', 'b', 'c', 'remote', 'node', 'otherNode', 'stranger'] as const;

type Programmed = { readonly set: SetNumber; layers: LayerNumber[]; tables: TableNumber[]; classes: ClassKey[] };
type ClassKey = { readonly layer: LayerNumber; readonly identity: IdentityNumber };

export class Rig {
  readonly harness: Harness;
  readonly #interfaces = new Map<PodName, number>();
  readonly #rules = new Map<string, RuleNumber>();
  readonly #lines = new Map<RuleNumber, RuleLine>();
  readonly #programmed = new Map<string, Programmed>();
  readonly #identities: ReadonlyMap<string, IdentityNumber> = new Map(NAMES.map((name, index) => [name, index + 1]));
  readonly #unknown: IdentityNumber = NAMES.length + 1;
  readonly #openSet: SetNumber = NAMES.length + 2;
  readonly #audits = new Map<PodName, Audit>();
  #last: number = NAMES.length + 2;

  constructor(harness: Harness) {
    this.harness = harness;
    for (const pod of PODS) this.attach(pod);
    harness.datapath.apply([
      ...[...this.#identities.values()].map((identity) => identityStep(identity, 'known')),
      identityStep(this.#unknown, 'unknown'),
      { kind: 'set', set: this.#openSet, value: { layers: [] } },
      { kind: 'prefix', cidr: block('10.0.0.0/8'), value: this.#unknown },
      { kind: 'prefix', cidr: block('fd00::/16'), value: this.#unknown },
      { kind: 'prefix', cidr: block('0.0.0.0/0'), value: this.#identity('world4') },
      { kind: 'prefix', cidr: block('::/0'), value: this.#identity('world6') },
      ...[IPV4, IPV6].flatMap((names) => this.#known(names)),
      { kind: 'node', node: 'n1', value: [address(IPV4.node), address(IPV6.node)] },
      { kind: 'node', node: 'n2', value: [address(IPV4.otherNode), address(IPV6.otherNode)] },
    ]);
    for (const pod of PODS) this.admit(pod);
  }

  /** Gives the pod a fresh interface with the datapath's hooks; `more`: addresses that it has beside its usual ones. */
  attach(pod: PodName, more: readonly string[] = []): void {
    const interfaceIndex = this.harness.addInterface();
    this.#interfaces.set(pod, interfaceIndex);
    const addresses = [...addressesOf(pod), ...more.map(address)];
    this.harness.datapath.attach({ interfaceIndex, mac: macOfPod(pod), addresses });
  }

  detach(pod: PodName): void {
    this.harness.datapath.detach(this.#interfaceOf(pod));
    this.#interfaces.delete(pod);
  }

  /** Gives the pod another interface while the old one is still there; what is returned takes the old one away. */
  move(pod: PodName): () => void {
    const old = this.#interfaceOf(pod);
    this.attach(pod);
    return () => this.harness.datapath.detach(old);
  }

  /** Writes the pod's endpoint records; `owner` is who lives at the addresses now. */
  admit(pod: PodName, owner: string = pod, addresses: readonly Address[] = addressesOf(pod)): void {
    for (const own of addresses) {
      const audit = this.#audits.get(pod);
      const sets = {
        egress: this.#setOf(pod, 'egress'),
        ingress: this.#setOf(pod, 'ingress'),
        ...(audit && { audit }),
      };
      this.apply([
        { kind: 'endpoint', address: own, value: { address: own, pod: podKey('suite', owner), node: 'n1', ...sets } },
      ]);
    }
  }

  /** Which of the pod's denials pass from now on, and are told. */
  audit(pod: PodName, audit: Audit | 'none'): void {
    if (audit === 'none') this.#audits.delete(pod);
    else this.#audits.set(pod, audit);
    this.admit(pod);
  }

  /** Takes the pod's endpoint records away. */
  expel(pod: PodName): void {
    this.apply(addressesOf(pod).map((own): Step => ({ kind: 'endpoint', address: own, value: null })));
  }

  /** Says that the address is of this identity now, and has flows with it judged again. */
  relabel(text: string, name: string): void {
    const peer = address(text);
    this.apply([
      { kind: 'address', address: peer, value: this.#identity(name) },
      { kind: 'epoch', sets: [], peers: [peer] },
    ]);
  }

  /** The rules of a pod and direction from now on, layer by layer; open flows are judged again. */
  policy(pod: PodName, direction: Direction, ...layers: readonly (readonly RuleLine[])[]): void {
    const key = `${pod} ${direction}`;
    const before = this.#programmed.get(key);
    const after: Programmed = { set: before?.set ?? this.#fresh(), layers: [], tables: [], classes: [] };
    const steps = layers.flatMap((lines, index) => {
      const layer = before?.layers[index] ?? this.#fresh();
      return this.#layerSteps(lines, { layer, direction, into: after });
    });
    const gone = (before?.classes ?? []).filter((old) => !after.classes.some((kept) => sameClass(old, kept)));
    this.#programmed.set(key, after);
    this.apply([
      ...steps,
      ...gone.map((old): Step => ({ kind: 'class', ...old, value: null })),
      { kind: 'set', set: after.set, value: { layers: after.layers } },
    ]);
    // A set that nobody had has no flows to judge again: the endpoint that moves to it has.
    if (before === undefined) {
      this.admit(pod);
      return;
    }
    const old = before.tables.map((table): Step => ({ kind: 'table', table, value: null }));
    this.apply([{ kind: 'epoch', sets: [after.set], peers: [] }, ...old]);
  }

  /** Other rules for one peer, in the layer that the pod has: its class and nothing else changes. */
  reclass(pod: PodName, direction: Direction, peer: string, lines: readonly RuleLine[]): void {
    const programmed = this.#programmed.get(`${pod} ${direction}`);
    const [layer] = programmed?.layers ?? [];
    assert.ok(programmed !== undefined && layer !== undefined, `${pod} ${direction} has no rules yet`);
    const identity = this.#identity(peer);
    const key = { layer, identity };
    const into: Programmed = { ...programmed, layers: [], tables: [], classes: [] };
    const steps = this.#layerSteps(lines, { layer, direction, into }).filter((step) => step.kind !== 'layer');
    const isOnly = into.classes.every((one) => sameClass(one, key)) && into.tables.length === into.classes.length;
    assert.ok(isOnly, `${lines}: rules for ${peer} only`);
    const gone: Step[] = into.classes.length === 0 ? [{ kind: 'class', ...key, value: null }] : [];
    programmed.tables.push(...into.tables);
    this.apply([...steps, ...gone, { kind: 'epoch', sets: [programmed.set], peers: [] }]);
  }

  apply(steps: readonly Step[]): void {
    this.harness.datapath.apply(steps);
  }

  /** The frame must pass. */
  pass(place: Place, frame: Uint8Array): Met {
    const judged = this.inject(place, frame);
    assert.equal(this.describe(judged), 'pass', `${place}: ${hex(frame)}`);
    return judged;
  }

  /** The frame must be dropped: `reason`, or `reason leg`, or `reason leg rule line`. */
  drop(place: Place, frame: Uint8Array, expected: string): void {
    const words = this.describe(this.inject(place, frame)).split(' ');
    assert.equal(words.slice(0, expected.split(' ').length).join(' '), expected, `${place}: ${hex(frame)}`);
  }

  /** The frame must be dropped for want of a backend; returns what its sender is told, or null. */
  refuse(place: Place, frame: Uint8Array): Uint8Array | null {
    const met = this.inject(place, frame);
    assert.equal(this.describe(met), 'no-backend', `${place}: ${hex(frame)}`);
    return met.answer;
  }

  /** As `drop`, keeping the frame's own source MAC. */
  dropAsIs(place: Place, frame: Uint8Array, expected: string): void {
    const judged = this.injectAsIs(place, frame);
    assert.notEqual(judged, 'refused', hex(frame));
    if (judged !== 'refused') assert.equal(judged.reason, expected, `${place}: ${hex(frame)}`);
  }

  inject(place: Place, frame: Uint8Array): Met {
    const sent = place.startsWith('from')
      ? concat(frame.subarray(0, 6), macOfPod(podOf(place)), frame.subarray(12))
      : frame;
    const judged = this.injectAsIs(place, sent);
    if (judged === 'refused') throw new Error(`the datapath can't be given this frame: ${hex(frame)}`);
    return judged;
  }

  injectAsIs(place: Place, frame: Uint8Array): Met | 'refused' {
    return this.harness.inject({
      interfaceIndex: this.#interfaceOf(podOf(place)),
      hook: place.startsWith('from') ? 'from-pod' : 'to-pod',
      sender: place.endsWith('by stack')
        ? 'own-node'
        : place.endsWith('from afar')
          ? 'elsewhere'
          : this.#senderOf(frame),
      frame,
    });
  }

  /** The interface of the pod that has the frame's source address. */
  #senderOf(frame: Uint8Array): Sender {
    const [at, size] = frame[12] === 0x86 ? [22, 16] : [26, 4];
    const source = hex(frame.subarray(at, at + size));
    const pod = [...this.#interfaces.keys()].find((name) => addressesOf(name).some((own) => hexOf(own) === source));
    return pod === undefined ? 'elsewhere' : this.#interfaceOf(pod);
  }

  /** The frame must pass by audit alone, and be told so: as `drop`. */
  audited(place: Place, frame: Uint8Array, expected: string): void {
    assert.equal(this.describe(this.inject(place, frame)), `audited ${expected}`, `${place}: ${hex(frame)}`);
  }

  /** `pass`, or reason, leg and the line of the rule that denied; `audited` before them where that passed. */
  describe(judged: Judged): string {
    const { audited } = judged;
    if (audited !== null) return `audited ${this.describe({ ...judged, ...audited, verdict: 'drop', audited: null })}`;
    if (judged.verdict === 'pass') return 'pass';
    const rule = judged.leg === 'egress' ? judged.egressRule : judged.ingressRule;
    const line = judged.leg === null || rule === null ? [] : [this.lineOf(rule)];
    return [judged.reason, ...(judged.leg === null ? [] : [judged.leg]), ...line].join(' ');
  }

  /** The line that a rule number stands for. */
  lineOf(rule: RuleNumber | null): RuleLine {
    return rule === null ? 'no rule' : (this.#lines.get(rule) ?? `rule ${rule}, which was never given`);
  }

  #layerSteps(
    lines: readonly RuleLine[],
    at: { readonly layer: LayerNumber; readonly direction: Direction; readonly into: Programmed },
  ): readonly Step[] {
    const ruleOf = (line: RuleLine): RuleNumber => this.#ruleOf(line, at.direction);
    const tables = layerTables(lines, { ruleOf, identityOf: (peer) => this.#identity(peer), unknown: [this.#unknown] });
    const rules = lines.map(
      (line): Step => ({ kind: 'rule', rule: ruleOf(line), value: ruleInfo(line, at.direction) }),
    );
    const steps: Step[] = [];
    const tableFor = (value: NonNullable<typeof tables.base>): TableNumber => {
      const table = this.#fresh();
      steps.push({ kind: 'table', table, value });
      at.into.tables.push(table);
      return table;
    };
    const base = tables.base === null ? null : tableFor(tables.base);
    steps.push({ kind: 'layer', layer: at.layer, value: { base } });
    for (const [peer, table] of tables.classes) {
      const number = tableFor(table);
      steps.push({ kind: 'class', layer: at.layer, identity: peer, value: number });
      at.into.classes.push({ layer: at.layer, identity: peer });
    }
    at.into.layers.push(at.layer);
    return [...rules, ...steps];
  }

  #ruleOf(line: RuleLine, direction: Direction): RuleNumber {
    const key = `${direction} ${line}`;
    const rule = this.#rules.get(key) ?? this.#fresh();
    this.#rules.set(key, rule);
    this.#lines.set(rule, line);
    return rule;
  }

  /** The exact addresses of one family. */
  #known(names: Names): readonly Step[] {
    return NAMES.flatMap((name): Step[] => {
      const text = name === 'world4' || name === 'world6' || name === 'stranger' ? null : names[name];
      return text === null ? [] : [{ kind: 'address', address: address(text), value: this.#identity(name) }];
    });
  }

  #identity(name: string): IdentityNumber {
    const found = this.#identities.get(name);
    assert.ok(found !== undefined, `no identity ${name}`);
    return found;
  }

  /** A number for a rule, table, layer or set that no other has had. */
  #fresh(): number {
    return ++this.#last;
  }

  #setOf(pod: PodName, direction: Direction): SetNumber {
    return this.#programmed.get(`${pod} ${direction}`)?.set ?? this.#openSet;
  }

  #interfaceOf(pod: PodName): number {
    const found = this.#interfaces.get(pod);
    assert.ok(found !== undefined, `${pod} has no interface`);
    return found;
  }
}

/** The pod's MAC. */
export function macOfPod(pod: PodName): Uint8Array {
  return Uint8Array.of(2, 0, 0, 0, 0x50, PODS.indexOf(pod) + 1);
}

/** The address of a text that the suite wrote itself. */
export function address(text: string): Address {
  const found = parseAddress(text);
  assert.ok(found, text);
  return found;
}

function addressesOf(pod: PodName): readonly Address[] {
  return [address(IPV4[pod]), address(IPV6[pod])];
}

function podOf(place: Place): PodName {
  const name = place.split(' ')[1];
  const pod = PODS.find((known) => known === name);
  assert.ok(pod, place);
  return pod;
}

function identityStep(number: IdentityNumber, state: 'known' | 'unknown'): Step {
  return { kind: 'identity', identity: number, value: { unknown: state === 'unknown' } };
}

/** The block of a text that the suite wrote itself. */
export function block(text: string): Extract<Step, { kind: 'prefix' }>['cidr'] {
  const found = parseCidr(text);
  assert.ok(found, text);
  return found.cidr;
}

function sameClass(a: ClassKey, b: ClassKey): boolean {
  return a.layer === b.layer && a.identity === b.identity;
}

function hexOf({ words }: Address): string {
  return words.map((word) => word.toString(16).padStart(8, '0')).join('');
}

function hex(frame: Uint8Array): string {
  return Array.from(frame, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

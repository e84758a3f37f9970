// Reach against the interpreter: a row holds a port exactly if some pod of the one may reach some pod of the other.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Compiler } from '#compile/compiler.ts';
import { type Address, formatAddress, parseAddress } from '#net/address.ts';
import { ICMP, ICMPV6, type Protocol, protocolName, SCTP, TCP, UDP } from '#net/protocol.ts';
import { evaluate } from '#policy/evaluate.ts';
import { endpointsByAddress, type Pod, type PodKey, type World } from '#policy/world.ts';
import { PORTS, PROTOCOLS } from '#test/support/arbitrary-policy.ts';
import { ADDRESSES, arbitraryWorld, worldEvents } from '#test/support/arbitrary-world.ts';
import { holds } from '#test/support/property.ts';
import type { Connection } from './connections.ts';
import { addressNumber } from './external.ts';
import { type Reach, reach, workloadName } from './reach.ts';

const RUNS = 200;

type Semantics = { readonly ipBlockPods: boolean };

function reachOf(world: World, semantics: Semantics): Reach {
  const compiler = new Compiler({ semantics, isLocal: () => true });
  compiler.apply(worldEvents(world));
  return reach(world, compiler.plan);
}

/** What the rows say of one protocol and port between two names. */
function says(found: Reach, from: string, to: string, { protocol, port }: Port): boolean {
  return found.rows.some((row) => row.from === from && row.to === to && listed(row.connections, protocol, port));
}

type Port = { readonly protocol: Protocol; readonly port: number };

const NAMED: ReadonlySet<Protocol> = new Set([TCP, UDP, SCTP, ICMP, ICMPV6]);

function listed(connections: readonly Connection[], protocol: Protocol, port: number): boolean {
  const wanted = connections.find(({ protocol: name }) => name === protocolName(protocol));
  const others = NAMED.has(protocol) ? undefined : connections.find(({ protocol: name }) => name === 'other');
  const ports = (wanted ?? others)?.ports ?? [];
  return ports.some(([first, last]) => first <= port && port <= last);
}

/** Port 0 is left out by design: nobody can name it. */
const SAMPLE: readonly Port[] = PROTOCOLS.flatMap((protocol) =>
  PORTS.filter((port) => port !== 0).map((port) => ({ protocol, port })),
);

/** Worlds whose pods share three workloads in each namespace. */
const worlds: fc.Arbitrary<World> = arbitraryWorld('network').map((world) => {
  const pods = [...world.pods].map(([key, pod], index): [PodKey, Pod] => {
    const workload = { kind: 'Deployment', namespace: pod.namespace, name: `w${index % 3}` };
    return [key, { ...pod, workload }];
  });
  return { ...world, pods: new Map(pods) };
});

type Group = { readonly name: string; readonly pods: readonly Pod[]; readonly addresses: readonly Address[] };

/** Workloads with the addresses that are their pods' own. */
function groupsOf(world: World): readonly Group[] {
  const owners = endpointsByAddress(world);
  const owns = (pod: Pod, address: Address): boolean => {
    const owner = owners.get(formatAddress(address));
    return pod.hostNetwork ? owner === undefined : owner === pod;
  };
  const pods = [...world.pods.values()].filter((pod) => !pod.finished);
  return [...Map.groupBy(pods, (pod) => workloadName(pod.workload))].map(([name, members]) => ({
    name,
    pods: members,
    addresses: members.flatMap((pod) => pod.addresses.filter((address) => owns(pod, address))),
  }));
}

function allowsSome(world: World, [sources, destinations]: readonly [Group, Group], ask: Port & Semantics): boolean {
  return sources.addresses.some((from) =>
    destinations.addresses.some(
      (to) => from.family === to.family && evaluate(world, { from, to, ...ask }, ask).verdict === 'allow',
    ),
  );
}

test('on random worlds, rows between workloads are what the interpreter allows', (t) => {
  holds(
    t,
    fc.property(worlds, fc.boolean(), (world, ipBlockPods) => {
      const semantics = { ipBlockPods };
      const found = reachOf(world, semantics);
      const groups = groupsOf(world);
      for (const from of groups) {
        for (const to of groups.filter((group) => group !== from)) {
          for (const port of SAMPLE) {
            const expected = allowsSome(world, [from, to], { ...port, ...semantics });
            assert.equal(
              says(found, from.name, to.name, port),
              expected,
              `${from.name} → ${to.name} ${JSON.stringify(port)}`,
            );
          }
        }
      }
    }),
    RUNS,
  );
});

test('on random worlds, what passes by audit alone is what the interpreter denies where no namespace is audited', (t) => {
  let audited = 0;
  holds(
    t,
    fc.property(worlds, (world) => {
      const ask = { ipBlockPods: true };
      const found = reachOf(world, ask);
      const strict = {
        ...world,
        namespaces: new Map([...world.namespaces].map(([name, { mode, ...rest }]) => [name, rest])),
      };
      const groups = groupsOf(world);
      for (const from of groups) {
        for (const to of groups.filter((group) => group !== from)) {
          const row = found.rows.find((one) => one.from === from.name && one.to === to.name);
          for (const port of SAMPLE) {
            const [now, then] = [world, strict].map((each) => allowsSome(each, [from, to], { ...port, ...ask }));
            const told = listed(row?.audited ?? [], port.protocol, port.port);
            assert.equal(told, now && !then, `${from.name} → ${to.name} ${JSON.stringify(port)}`);
            audited += Number(told);
          }
        }
      }
    }),
    RUNS,
  );
  assert.ok(audited > 0, 'no world has an audit that lets something pass');
});

test('on random worlds, rows to and from the outside are what the interpreter allows there', (t) => {
  holds(
    t,
    fc.property(worlds, (world) => {
      const found = reachOf(world, { ipBlockPods: true });
      const known = new Set(
        [...world.nodes.values(), ...world.pods.values()].flatMap(({ addresses }) => addresses.map(addressNumber)),
      );
      const outside = OUTSIDE.filter((address) => !known.has(addressNumber(address)));
      for (const group of groupsOf(world)) {
        for (const address of outside)
          for (const port of SAMPLE) compareOutside(world, found, { group, address, port });
      }
    }),
    RUNS,
  );
});

const OUTSIDE: readonly Address[] = ADDRESSES.filter((address) =>
  ['8.8.8.8', '1.1.1.1', '192.168.9.9', '2001:db8::1', '2606:4700::1'].some(
    (text) =>
      addressNumber(address) === addressNumber(parseAddress(text) ?? address) &&
      address.family === parseAddress(text)?.family,
  ),
);

type OutsideCase = { readonly group: Group; readonly address: Address; readonly port: Port };

function compareOutside(world: World, found: Reach, { group, address, port }: OutsideCase): void {
  const own = group.addresses.filter(({ family }) => family === address.family);
  const { name } = group;
  const allowed = (flow: { from: Address; to: Address }): boolean =>
    evaluate(world, { ...flow, ...port }, { ipBlockPods: true }).verdict === 'allow';
  const inward = found.rows.some(
    (row) => row.to === name && covers(row.from, address) && listed(row.connections, port.protocol, port.port),
  );
  const outward = found.rows.some(
    (row) => row.from === name && covers(row.to, address) && listed(row.connections, port.protocol, port.port),
  );
  assert.equal(
    inward,
    own.some((to) => allowed({ from: address, to })),
  );
  assert.equal(
    outward,
    own.some((from) => allowed({ from, to: address })),
  );
}

/** True where `first-last[External]` holds the address. */
function covers(range: string, address: Address): boolean {
  const match = /^([0-9a-f.:]+)-([0-9a-f.:]+)\[External\]$/.exec(range);
  const [first, last] = [parseAddress(match?.[1] ?? ''), parseAddress(match?.[2] ?? '')];
  if (first?.family !== address.family || last === null) return false;
  return addressNumber(first) <= addressNumber(address) && addressNumber(address) <= addressNumber(last);
}

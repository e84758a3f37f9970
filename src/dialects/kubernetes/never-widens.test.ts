// Invariant 5 by chance: whatever is broken in a valid NetworkPolicy, what it lets through never grows.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { TCP } from '#net/protocol.ts';
import { evaluate } from '#policy/evaluate.ts';
import type { SourceObject } from '#policy/object.ts';
import { STANDARD_SEMANTICS, type World } from '#policy/world.ts';
import { holds } from '#test/support/property.ts';
import { addressOf, worldOf } from '#test/support/worlds.ts';
import { lowerNetworkPolicy } from './lower.ts';

const pod = (namespace: string, name: string, ip: string): string =>
  `---\napiVersion: v1\nkind: Pod\nmetadata: {name: ${name}, namespace: ${namespace}, labels: {app: ${name}}}\n` +
  `spec: {containers: [{ports: [{name: http, containerPort: 80}]}]}\nstatus: {podIP: ${ip}}\n`;
const PODS = pod('shop', 'web', '10.0.0.1') + pod('shop', 'db', '10.0.0.2') + pod('other', 'web', '10.0.1.1');
const DENY_ALL =
  '---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny, namespace: shop}\nspec: {policyTypes: [Ingress, Egress]}\n';

/** Without other policies isolation must not get lost; beside a deny-all nothing may be let through anew. */
const WORLDS: readonly World[] = [worldOf(PODS), worldOf(PODS + DENY_ALL)];
const FLOWS = ['10.0.0.1', '10.0.0.2', '10.0.1.1', '8.8.8.8'].flatMap((from, _, all) =>
  all
    .filter((to) => to !== from)
    .flatMap((to) => [80, 81].map((port) => ({ from: addressOf(from), to: addressOf(to), protocol: TCP, port }))),
);

const WEB = { matchLabels: { app: 'web' } };
const SPECS: readonly Record<string, unknown>[] = [
  { podSelector: WEB, ingress: [{ from: [{ podSelector: { matchLabels: { app: 'db' } } }], ports: [{ port: 80 }] }] },
  {
    podSelector: WEB,
    policyTypes: ['Ingress', 'Egress'],
    ingress: [{}],
    egress: [{ to: [{ namespaceSelector: {} }] }],
  },
  { podSelector: WEB, policyTypes: ['Egress'], egress: [{ ports: [{ port: 'http', protocol: 'TCP' }] }] },
  {
    podSelector: {},
    egress: [
      { to: [{ ipBlock: { cidr: '10.0.0.0/8', except: ['10.0.1.0/24'] } }], ports: [{ port: 80, endPort: 90 }] },
    ],
  },
  {
    podSelector: { matchExpressions: [{ key: 'app', operator: 'NotIn', values: ['db'] }] },
    ingress: [
      {
        from: [{ namespaceSelector: { matchExpressions: [{ key: 'x', operator: 'DoesNotExist' }] }, podSelector: WEB }],
      },
    ],
  },
];

function objectOf(content: unknown): SourceObject {
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    namespace: 'shop',
    name: 'p',
    content,
    origin: null,
  };
}

function contentOf(spec: unknown): Record<string, unknown> {
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name: 'p', namespace: 'shop' },
    spec,
  };
}

/** The flows of each world that the policy, added to it, lets through. */
function allowed(content: unknown): { readonly flows: ReadonlySet<string>; readonly invalid: boolean } {
  const { value, diagnostics } = lowerNetworkPolicy(objectOf(content));
  assert.ok(value);
  const flows = new Set<string>();
  for (const [index, world] of WORLDS.entries()) {
    const policies = new Map(world.policies).set(value.key, value);
    for (const [number, flow] of FLOWS.entries()) {
      if (evaluate({ ...world, policies }, flow, STANDARD_SEMANTICS).verdict === 'allow')
        flows.add(`${index} ${number}`);
    }
  }
  return { flows, invalid: diagnostics.some(({ severity }) => severity === 'error') };
}

type Place = { readonly parent: Record<string, unknown> | unknown[]; readonly key: string };

/** Every field and item at or below the spec. */
function placesIn(content: Record<string, unknown>): Place[] {
  const places: Place[] = [{ parent: content, key: 'spec' }];
  const walk = (parent: unknown): void => {
    if (typeof parent !== 'object' || parent === null) return;
    for (const key of Object.keys(parent)) {
      places.push({ parent: parent as Place['parent'], key });
      walk((parent as Record<string, unknown>)[key]);
    }
  };
  walk(content.spec);
  return places;
}

const GARBAGE = [
  42,
  -1,
  0.5,
  'no such thing!',
  '',
  true,
  [],
  {},
  [null],
  [42],
  { x: 1 },
  [{ x: 1 }],
  'tcp',
  '80',
  '10.0.0.0/99',
];
const change = fc.record({
  spec: fc.constantFrom(...SPECS),
  place: fc.nat(1000),
  how: fc.oneof(
    fc.constantFrom(...GARBAGE).map((value) => ({ kind: 'replace' as const, value })),
    fc.constantFrom('x', 'Ingress', 'podSelectors', 'constructor').map((name) => ({ kind: 'rename' as const, name })),
    fc.constantFrom('x', 'toString', 'spec').map((name) => ({ kind: 'add' as const, name })),
  ),
});

test('a NetworkPolicy with any part broken lets nothing through that it did not before', (t) => {
  let runs = 0;
  let broken = 0;
  const check = fc.property(change, ({ spec, place, how }) => {
    const content = contentOf(structuredClone(spec));
    const places = placesIn(content);
    const { parent, key } = places[place % places.length] ?? { parent: content, key: 'spec' };
    const fields = parent as Record<string, unknown>;
    if (how.kind === 'replace') fields[key] = how.value;
    else if (Array.isArray(parent)) return;
    else if (how.kind === 'add') fields[how.name] = {};
    else {
      fields[how.name] = fields[key];
      delete fields[key];
    }
    runs++;
    const now = allowed(content);
    if (!now.invalid) return;
    broken++;
    const before = allowed(contentOf(spec)).flows;
    const grown = [...now.flows].filter((flow) => !before.has(flow));
    assert.deepEqual(grown, [], JSON.stringify(content));
  });
  holds(t, check, 3000);
  assert.ok(broken > runs / 3, `${broken} of ${runs} changes made the policy invalid`);
});

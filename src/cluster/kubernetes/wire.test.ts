// Kubernetes' frame around Protocol Buffers, and that its shapes have all that is read of a pod.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Fields, fieldsOf, itemsOf } from '#policy/fields.ts';
import { encodeMessage, wireChange, wireObject } from '#test/support/protobuf.ts';
import { KINDS, readObject } from './kinds.ts';
import type { Shape } from './protobuf.ts';
import { SHAPES } from './shapes.ts';
import { ChangeCutter, readWireObject } from './wire.ts';

const POD = KINDS.find(({ kind }) => kind === 'Pod');
assert.ok(POD);

function shapeOf(kind: string): Shape {
  const shape = SHAPES.get(`v1 ${kind}`);
  assert.ok(shape);
  return shape;
}

function encoded(kind: string, fields: Fields): Buffer {
  return wireObject('v1', kind, encodeMessage(shapeOf(kind), fields));
}

function named(name: string, resourceVersion: string): Fields {
  return { metadata: { name, namespace: 'shop', resourceVersion } };
}

const NAME = fc.constantFrom('web', 'db', 'a-b', 'X_', '');
const PORT = fc.record(
  {
    name: fc.constantFrom('http', 'dns', ''),
    containerPort: fc.constantFrom(80, 53, 65_535),
    protocol: fc.constantFrom('TCP', 'UDP', 'SCTP'),
    hostPort: fc.constantFrom(8080, 53),
    hostIP: fc.constantFrom('192.0.2.1', '::'),
  },
  { requiredKeys: ['containerPort'] },
);
const CONTAINER = fc.record(
  {
    ...{ name: NAME, image: fc.string(), ports: fc.array(PORT, { minLength: 1 }) },
    restartPolicy: fc.constantFrom('Always', 'Never'),
  },
  { requiredKeys: ['name'] },
);
const ADDRESS = fc.constantFrom('10.0.0.1', '10.0.0.2', 'fd00::1', '192.0.2.7');
const ANY_POD = fc.record(
  {
    metadata: fc.record(
      {
        ...{ name: fc.constantFrom('web-1', 'db'), namespace: fc.constantFrom('shop', 'team'), uid: fc.uuid() },
        ...{ generateName: NAME, generation: fc.nat(), creationTimestamp: fc.string(), resourceVersion: fc.string() },
        labels: fc.dictionary(fc.constantFrom('app', 'tier', 'x.y/z', 'pod-template-hash'), NAME, { minKeys: 1 }),
        annotations: fc.dictionary(
          fc.constantFrom('kubernetes.io/config.mirror', 'moat.network/mode', 'note'),
          fc.constantFrom('audit', 'x', ''),
          { minKeys: 1 },
        ),
        ownerReferences: fc.array(
          fc.record({
            kind: fc.constantFrom('ReplicaSet', 'Job'),
            name: NAME,
            uid: fc.uuid(),
            controller: fc.boolean(),
          }),
          { minLength: 1 },
        ),
      },
      { requiredKeys: ['name', 'namespace'] },
    ),
    spec: fc.record(
      {
        ...{ nodeName: fc.constantFrom('node-1', 'node-2'), hostNetwork: fc.boolean(), hostPID: fc.boolean() },
        ...{ containers: fc.array(CONTAINER, { minLength: 1 }), initContainers: fc.array(CONTAINER, { minLength: 1 }) },
        ...{ serviceAccountName: NAME, hostname: NAME, priority: fc.nat() },
      },
      { requiredKeys: [] },
    ),
    status: fc.record(
      {
        phase: fc.constantFrom('Pending', 'Running', 'Succeeded', 'Failed', 'Unknown'),
        ...{ podIP: ADDRESS, hostIP: ADDRESS, hostIPs: fc.array(fc.record({ ip: ADDRESS })), message: fc.string() },
        podIPs: fc.array(fc.record({ ip: ADDRESS }), { minLength: 1 }),
        conditions: fc.array(fc.record({ type: NAME, status: NAME })),
      },
      { requiredKeys: [] },
    ),
  },
  { requiredKeys: ['metadata'] },
);

/** As the API's JSON leaves out what is empty. */
function asJson(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(asJson);
  if (typeof value !== 'object' || value === null) return value;
  const kept = Object.entries(value).filter(([key, each]) => each !== '' || ['name', 'note'].includes(key) === false);
  return Object.fromEntries(
    kept.filter(([, each]) => each !== '' && each !== false).map(([key, each]) => [key, asJson(each)]),
  );
}

test('a pod means the same by protobuf and by JSON: the shape has all that is read', () => {
  const property = fc.property(ANY_POD, (pod) => {
    const json = asJson({ ...pod, metadata: { ...pod.metadata, labels: undefined, annotations: undefined } });
    const { labels, annotations } = pod.metadata;
    // Values of maps are not left out.
    const metadata = {
      ...fieldsOf(fieldsOf(json).metadata),
      ...(labels && { labels }),
      ...(annotations && { annotations }),
    };
    const whole = JSON.parse(JSON.stringify({ ...fieldsOf(json), metadata }));
    assert.deepEqual(readObject(POD, readWireObject(encoded('Pod', pod))), readObject(POD, whole));
  });
  fc.assert(property, { numRuns: 500 });
});

test('a list has its version, where it goes on, and its items', () => {
  const items = [named('a', '3'), named('b', '4')];
  const list = { metadata: { resourceVersion: '7', continue: 'more' }, items };
  assert.deepEqual(readWireObject(encoded('PodList', list)), list);
  assert.deepEqual(readWireObject(encoded('PodList', { metadata: { resourceVersion: '8' } })), {
    metadata: { resourceVersion: '8' },
    items: [],
  });
});

test('what is of another kind, or no object at all, is refused', () => {
  for (const bytes of [Buffer.alloc(0), Buffer.from('{"kind":"Pod"}'), wireObject('v1', 'Secret', Buffer.alloc(0))]) {
    assert.throws(() => readWireObject(bytes), { name: 'ProtobufError' });
  }
  assert.throws(() => readWireObject(wireObject('v2', 'Pod', Buffer.alloc(0))), /it is "Pod" of "v2"/);
});

test('changes come whole, however their bytes are cut', () => {
  const changes: readonly (readonly [string, string, Fields])[] = [
    ['ADDED', 'Pod', named('a', '10')],
    ['MODIFIED', 'Pod', { ...named('b', '11'), spec: { nodeName: 'node-1' } }],
    ['BOOKMARK', 'Pod', { metadata: { resourceVersion: '12' } }],
    ['ERROR', 'Status', { message: 'too old', code: 410, details: { retryAfterSeconds: 3 } }],
  ];
  const bytes = Buffer.concat(changes.map(([type, kind, object]) => wireChange(type, encoded(kind, object))));
  const expected = changes.map(([type, , object]) => ({ type, object }));
  const property = fc.property(fc.array(fc.nat(bytes.length)), (cuts) => {
    const ends = [...new Set(cuts), bytes.length].sort((a, b) => a - b);
    const cut = new ChangeCutter();
    const read = ends.flatMap((end, index) => [...cut.take(bytes.subarray(ends[index - 1] ?? 0, end))]);
    assert.deepEqual(read, expected);
    assert.equal(cut.isBetween, true);
  });
  fc.assert(property, { numRuns: 200 });
  const half = new ChangeCutter();
  assert.equal(itemsOf(half.take(bytes.subarray(0, bytes.length - 1))).length, changes.length - 1);
  assert.equal(half.isBetween, false);
});

test('a change that is said to be larger than anybody reads is refused before it is read', () => {
  assert.throws(() => new ChangeCutter().take(Buffer.from([255, 255, 255, 255])), /a change has more than \d+ bytes/);
});

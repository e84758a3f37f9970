// Which object counts where files and `apply` both speak.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SourceObject } from '#policy/object.ts';
import { ObjectStore } from './objects.ts';

function namespace(name: string, from: string): SourceObject {
  return { apiVersion: 'v1', kind: 'Namespace', namespace: '', name, content: { from }, origin: null };
}

function held(store: ObjectStore): Record<string, unknown> {
  return Object.fromEntries(store.all.map((object) => [object.name, (object.content as { from: string }).from]));
}

test('what was applied stays until its file changes', () => {
  const store = new ObjectStore();
  const file = namespace('a', 'file');
  store.watch([file, namespace('b', 'file')]);
  store.put([namespace('a', 'applied'), namespace('c', 'applied')]);
  store.watch([file]);
  assert.deepEqual(held(store), { a: 'applied', c: 'applied' });
  store.watch([namespace('a', 'file again')]);
  assert.deepEqual(held(store), { a: 'file again', c: 'applied' });
  store.watch([]);
  assert.deepEqual(held(store), { c: 'applied' });
});

test('of two objects with one name in files the first counts, and the second is named', () => {
  const store = new ObjectStore();
  const diagnostics = store.watch([namespace('a', 'first'), namespace('a', 'second')]);
  assert.deepEqual(held(store), { a: 'first' });
  assert.deepEqual(
    diagnostics.map((one) => one.code),
    ['object-duplicate'],
  );
});

test('of two policies with one name in one go neither counts: their namespace is isolated', () => {
  const policy = (spec: object): SourceObject => {
    const header = { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy' };
    return { ...header, namespace: 'shop', name: 'p', content: { ...header, spec }, origin: null };
  };
  const both = [policy({ podSelector: {}, ingress: [{}] }), policy({ podSelector: {} })];
  for (const take of ['put', 'watch', 'replace'] as const) {
    const store = new ObjectStore();
    assert.deepEqual(
      store[take](both).map((one) => one.code),
      ['object-duplicate'],
    );
    const specs = store.all.map(({ content }) => (content as { spec: unknown }).spec);
    assert.deepEqual(specs, [{ podSelector: {}, policyTypes: ['Ingress', 'Egress'] }]);
  }
});

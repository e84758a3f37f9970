// The demo's live edit: finds a connection that one rule alone allows, and the text of that rule's file without it.
import { readFileSync } from 'node:fs';
import { dump, load } from 'js-yaml';
import { isInvalid } from '#cluster/load.ts';
import { parseManifest } from '#cluster/manifests/parse.ts';
import { buildWorld } from '#cluster/world/build.ts';
import { objectKey } from '#cluster/world/inventory.ts';
import { judge } from '#datapath/reference/verdict.ts';
import { protocolNumber, TCP } from '#net/protocol.ts';
import type { Rule, RuleId } from '#policy/model.ts';
import type { SourceObject } from '#policy/object.ts';
import type { PodKey, Semantics, World } from '#policy/world.ts';
import type { ProbeRow } from '#sandbox/probe-judge.ts';
import { planOf } from './plan.ts';

/** An edit that takes `rule` away, and the connection that it allowed. */
export type Edit = {
  readonly row: ProbeRow;
  readonly rule: Rule;
  readonly file: string;
  readonly before: string;
  readonly after: string;
};

type Given = { readonly objects: readonly SourceObject[]; readonly world: World; readonly semantics: Semantics };

/**
 * The most telling edit that there is: of the TCP connections between two pods which some rule of the receiver allows,
 * one between namespaces where possible, whose rule allows the fewest, and which is denied once that rule is gone.
 * Null where there is none.
 */
export function findEdit(given: Given, rows: readonly ProbeRow[]): Edit | null {
  const candidates = rows.filter(
    (row) => row.verdict === 'allow' && row.protocol === 'TCP' && row.rule.ingress !== null,
  );
  const ofPods = candidates.filter(
    ({ from, to }) => given.world.pods.has(from as PodKey) && given.world.pods.has(to as PodKey),
  );
  const byRule = Map.groupBy(ofPods, ({ rule }) => rule.ingress);
  const rank = (alike: readonly ProbeRow[]): number => alike.length + (alike.some(isAcross) ? 0 : rows.length);
  for (const alike of [...byRule.values()].sort((a, b) => rank(a) - rank(b))) {
    const edit = alike[0] === undefined ? null : tryEdit(given, alike[0]);
    if (edit !== null) return edit;
  }
  return null;
}

function isAcross({ from, to }: ProbeRow): boolean {
  return from.split('/')[0] !== to.split('/')[0];
}

function tryEdit(given: Given, row: ProbeRow): Edit | null {
  const rule = findRule(given.world, row.rule.ingress);
  const object = given.objects.find((each) => rule !== null && isSourceOf(each, rule));
  const file = object?.origin?.file;
  if (rule === null || object === undefined || file === undefined) return null;
  const before = readFileSync(file, 'utf8');
  const after = withoutRule(before, object, rule.source.path);
  if (after === null || !isDenied(given, { file, text: after, row })) return null;
  return { row, rule, file, before, after };
}

function findRule(world: World, id: RuleId | null): Rule | null {
  for (const policy of world.policies.values()) {
    const rule = policy.ingress.find((each) => each.id === id);
    if (rule !== undefined) return rule;
  }
  return null;
}

function isSourceOf(object: SourceObject, { source }: Rule): boolean {
  return object.kind === source.kind && object.namespace === source.namespace && object.name === source.name;
}

/** The file's text with the object's document written anew; null where the object does not stand in it as expected. */
function withoutRule(text: string, object: SourceObject, path: string): string | null {
  const index = /^spec\.ingress\[(\d+)\]/.exec(path)?.[1];
  if (index === undefined) return null;
  const documents = text.split(/^---.*$/m);
  for (const [number, document] of documents.entries()) {
    const value: unknown = load(document);
    const found = itemsOf(value).find((item) => isObject(item, object));
    const ingress = found?.spec?.ingress;
    if (!Array.isArray(ingress)) continue;
    ingress.splice(Number(index), 1);
    return documents.with(number, `\n${dump(value)}`).join('---');
  }
  return null;
}

type Item = {
  readonly kind?: unknown;
  readonly metadata?: { readonly name?: unknown; readonly namespace?: unknown };
  readonly spec?: { readonly ingress?: unknown };
};

function itemsOf(value: unknown): readonly Item[] {
  const item = value as (Item & { readonly items?: unknown }) | null | undefined;
  return Array.isArray(item?.items) ? (item.items as readonly Item[]) : item ? [item] : [];
}

function isObject({ kind, metadata }: Item, object: SourceObject): boolean {
  return (
    kind === object.kind && metadata?.name === object.name && (metadata?.namespace ?? 'default') === object.namespace
  );
}

/** Read back as the sandbox will read it: the edit must be valid, and must deny this connection. */
function isDenied({ objects, world, semantics }: Given, edit: { file: string; text: string; row: ProbeRow }): boolean {
  const parsed = parseManifest(edit.text, edit.file);
  if (isInvalid(parsed.diagnostics)) return false;
  const others = objects.filter((object) => object.origin?.file !== edit.file);
  if (others.length + parsed.objects.length !== objects.length) return false;
  const order = new Map(objects.map((object, index) => [objectKey(object), index]));
  const place = (object: SourceObject): number => order.get(objectKey(object)) ?? 0;
  const edited = [...others, ...parsed.objects].sort((a, b) => place(a) - place(b));
  const after = buildWorld(edited, { nodeCount: 2, previous: world }).world;
  const [from, to] = [
    world.pods.get(edit.row.from as PodKey)?.addresses[0],
    world.pods.get(edit.row.to as PodKey)?.addresses[0],
  ];
  const protocol = protocolNumber(edit.row.protocol) ?? TCP;
  if (from === undefined || to === undefined) return false;
  return judge(planOf(after, semantics), { from, to, protocol, port: edit.row.port }).verdict !== 'allow';
}

// A Plan that steps change: what a datapath holds after the steps it was given.

import { type Address, type AddressKey, formatAddress } from '#net/address.ts';
import { type CidrKey, formatCidr } from '#net/cidr.ts';
import type {
  Identity,
  IdentityNumber,
  LayerNumber,
  PlanEndpoint,
  PlanService,
  PolicySet,
  PortTable,
  Prefix,
  RuleInfo,
  RuleNumber,
  ServiceKey,
  SetNumber,
  Step,
  TableNumber,
} from './plan.ts';
import { serviceKey } from './plan.ts';

/** A Map, or what is written as one. */
export type WritableMap<Key, Value> = ReadonlyMap<Key, Value> & {
  readonly set: (key: Key, value: Value) => unknown;
  readonly delete: (key: Key) => boolean;
};

type Classes = WritableMap<IdentityNumber, TableNumber>;
type MutableLayer = { readonly base: TableNumber | null; readonly classes: Classes };

/** A Plan in maps that `applyStep` writes. */
export type MutablePlan = {
  readonly rules: Map<RuleNumber, RuleInfo>;
  readonly tables: Map<TableNumber, PortTable>;
  readonly layers: Map<LayerNumber, MutableLayer>;
  readonly sets: Map<SetNumber, PolicySet>;
  readonly identities: Map<IdentityNumber, Identity>;
  readonly addresses: Map<AddressKey, IdentityNumber>;
  readonly prefixes: Map<CidrKey, Prefix>;
  readonly endpoints: Map<AddressKey, PlanEndpoint>;
  readonly nodes: Map<string, readonly Address[]>;
  readonly services: Map<ServiceKey, PlanService>;
};

/** A Plan that holds nothing yet. */
export function emptyPlan(): MutablePlan {
  return {
    rules: new Map(),
    tables: new Map(),
    layers: new Map(),
    sets: new Map(),
    identities: new Map(),
    addresses: new Map(),
    prefixes: new Map(),
    endpoints: new Map(),
    nodes: new Map(),
    services: new Map(),
  };
}

/** Carries out one step. `epoch` changes no table. A class of a layer that is not there breaks the order of steps. */
export function applyStep(plan: MutablePlan, step: Step): void {
  switch (step.kind) {
    case 'rule':
      put(plan.rules, step.rule, step.value);
      break;
    case 'table':
      put(plan.tables, step.table, step.value);
      break;
    case 'layer':
      put(plan.layers, step.layer, step.value && { ...step.value, classes: keptClasses(plan, step.layer) });
      break;
    case 'class':
      put(classesOf(plan, step.layer), step.identity, step.value);
      break;
    case 'set':
      put(plan.sets, step.set, step.value);
      break;
    case 'identity':
      put(plan.identities, step.identity, step.value);
      break;
    case 'address':
      put(plan.addresses, formatAddress(step.address), step.value);
      break;
    case 'prefix':
      put(plan.prefixes, formatCidr(step.cidr), step.value === null ? null : { cidr: step.cidr, identity: step.value });
      break;
    case 'endpoint':
      put(plan.endpoints, formatAddress(step.address), step.value);
      break;
    case 'node':
      put(plan.nodes, step.node, step.value);
      break;
    case 'service':
      put(plan.services, serviceKey(step.at), step.value);
      break;
    case 'epoch':
      break;
  }
}

/** A layer keeps its classes when its base changes. */
function keptClasses(plan: MutablePlan, layer: LayerNumber): Classes {
  return plan.layers.get(layer)?.classes ?? new Map();
}

function classesOf(plan: MutablePlan, layer: LayerNumber): Classes {
  const found = plan.layers.get(layer);
  if (found === undefined) throw new Error(`step order: class of layer ${layer}, which is not there`);
  return found.classes;
}

function put<Key, Value>(map: WritableMap<Key, Value>, key: Key, value: Value | null): void {
  if (value === null) map.delete(key);
  else map.set(key, value);
}

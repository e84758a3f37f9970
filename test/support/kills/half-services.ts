// Clusters before and after a change of Services, whose writes an agent is killed between.
import { type Address, parseAddress } from '#net/address.ts';
import { TCP, UDP } from '#net/protocol.ts';
import { type Policy, policyKey } from '#policy/model.ts';
import type { EndpointSlice, Service } from '#policy/service.ts';
import { type Pod, podKey } from '#policy/world.ts';
import { NAMESPACES } from '../arbitrary-policy.ts';
import type { KillWorld } from './services.ts';
import { BEGUN_PORT, NODE, SERVED_PORT } from './slots.ts';
import { firstWorld } from './world.ts';

/** Who may be behind a Service: local pods of CORE, the second of which nobody may reach, and pods of another node. */
export type Server = 'local' | 'shut' | 'far' | 'farther' | 'stranger';
/** Null = there is no such Service. */
export type Served = { readonly by: readonly Server[]; readonly port: number } | null;

/** `main`: all behind it may be reached. `mixed`: one of those behind it may not. */
export const SERVICES = ['main', 'mixed'] as const;
export type ServiceName = (typeof SERVICES)[number];
export type Moment = Readonly<Record<ServiceName, Served>>;

export type ServiceChange = { readonly name: string; readonly before: Moment; readonly after: Moment };

const SPACE = NAMESPACES[0] ?? '';
export const ASKED_PORT = 53;
/** Where they listen; both are open to pods that may be reached. */
export const LISTENED: readonly [number, number] = [SERVED_PORT, BEGUN_PORT];
const [PORT, OTHER] = LISTENED;

const FIRST: Moment = {
  main: { by: ['local', 'far'], port: PORT },
  mixed: { by: ['stranger', 'shut'], port: PORT },
};
const NONE: Moment = { main: null, mixed: null };

/** What is open already stays with who is behind `main` at first. */
export const SERVICE_CHANGES: readonly ServiceChange[] = [
  {
    name: 'a backend for another one',
    before: FIRST,
    after: { main: { by: ['far', 'farther'], port: PORT }, mixed: { by: ['shut', 'local'], port: PORT } },
  },
  {
    name: 'a backend more',
    before: { main: { by: ['local'], port: PORT }, mixed: { by: ['stranger'], port: PORT } },
    after: { main: { by: ['local', 'far'], port: PORT }, mixed: { by: ['stranger', 'shut'], port: PORT } },
  },
  { name: 'another port of the backends', before: FIRST, after: onOther(FIRST) },
  { name: 'Services that go', before: FIRST, after: NONE },
  { name: 'Services that come', before: NONE, after: FIRST },
];

function onOther({ main, mixed }: Moment): Moment {
  return { main: main && { ...main, port: OTHER }, mixed: mixed && { ...mixed, port: OTHER } };
}

export function addressOf(name: ServiceName): Address {
  const address = parseAddress(`10.96.0.${20 + SERVICES.indexOf(name)}`);
  if (address === null) throw new Error('no address');
  return address;
}

/** `far`: the pods of another node, with their addresses; who may be reached is open to the first pod. */
export function servedWorld(moment: Moment, addresses: ReadonlyMap<Server, Address>): KillWorld {
  const world = firstWorld();
  const far = (['far', 'farther', 'stranger'] as const).map((name) => farPod(name, addresses));
  const services = new Map(world.services);
  const slices = new Map(world.slices);
  for (const name of SERVICES) {
    const served = moment[name];
    if (served === null) continue;
    services.set(`${SPACE}/${name}`, serviceOf(name));
    slices.set(`${SPACE}/${name}`, sliceOf(name, served, addresses));
  }
  const pods = new Map([...world.pods, ...far.map((pod) => [pod.key, pod] as const)]);
  return { ...world, pods, policies: withMute(world.policies), services, slices };
}

/** Who may not be reached may reach nobody, either. */
function withMute(policies: KillWorld['policies']): KillWorld['policies'] {
  const shut: Policy | undefined = policies.get(policyKey('policy', '', 'shut'));
  if (shut === undefined) throw new Error('nobody is shut');
  return new Map(policies).set(shut.key, { ...shut, isolates: { egress: true, ingress: true } });
}

function farPod(name: Server, addresses: ReadonlyMap<Server, Address>): Pod {
  return {
    ...{ key: podKey(SPACE, name), namespace: SPACE, name, node: 'node-b', labels: { keep: 'yes' } },
    ...{ addresses: [...given(addresses, name)], ports: [], hostNetwork: false, finished: false },
    workload: { kind: 'Pod', namespace: SPACE, name },
  };
}

function serviceOf(name: ServiceName): Service {
  return {
    ...{ namespace: SPACE, name, clusterAddresses: [addressOf(name)], balancerAddresses: [], externalAddresses: [] },
    ports: [TCP, UDP].map((protocol) => ({ name: `${protocol}`, protocol, port: ASKED_PORT })),
    ...{ nodeLocal: false, outsideLocal: false, affinitySeconds: null },
  };
}

function sliceOf(
  service: ServiceName,
  { by, port }: NonNullable<Served>,
  addresses: ReadonlyMap<Server, Address>,
): EndpointSlice {
  return {
    ...{ namespace: SPACE, service, ports: [TCP, UDP].map((protocol) => ({ name: `${protocol}`, protocol, port })) },
    endpoints: by.map((each) => ({
      ...{ addresses: [...given(addresses, each)], ready: true, serving: true },
      node: each === 'local' || each === 'shut' ? NODE : 'node-b',
    })),
  };
}

function given(addresses: ReadonlyMap<Server, Address>, name: Server): readonly Address[] {
  const address = addresses.get(name);
  return address === undefined ? [] : [address];
}

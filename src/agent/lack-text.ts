// What the agent says where a table of the kernel is full, and all that it complains of.
import type { Lack } from '#datapath/port.ts';
import type { NamedRule } from './protocol.ts';

const SERVICES = ['ports of Services', 'nobody serves them: what is sent there is refused'] as const;

/** By the table that is full: what found no room there, and what that means. */
const MEANING: Readonly<Record<string, readonly [string, string]>> = {
  arena: ['port tables', 'the peers they are about are denied'],
  class_map: ['peers with rules of their own', 'they are denied, and everybody where more than allow depends on them'],
  set_map: ['policy sets', 'the pods that have them are closed'],
  endpoint_slots: ['addresses of local pods', 'they are closed'],
  endpoint_map: ['addresses of local pods', 'they are closed'],
  iface_map: ['interfaces of local pods', 'ARP and neighbour discovery are denied there'],
  address: ['addresses of the cluster', 'they are denied'],
  service_map: ['ports of Services', 'what is sent there goes on to that very address, as where no Service is'],
  service_slots: SERVICES,
  service_places: SERVICES,
  backend_slots: SERVICES,
  node_map: ['addresses of nodes', 'they are judged as any other'],
  uplink_map: ['uplinks', 'packets there take the stack'],
};

/** `rule`: one that is concerned. */
export function lackText({ table, count }: Lack, rule: NamedRule | null): string {
  const [what, effect] = MEANING[table] ?? ['elements', 'what they are about is denied'];
  const [place] = rule?.places ?? [];
  const whose = place === undefined ? '' : ` (of ${place.object}, ${place.path}, among others)`;
  return `the kernel's table ${table} is full: there is no room for ${count} ${what}${whose}; ${effect}`;
}

/** Null where there is nothing to complain of. */
export function joined(...complaints: readonly (string | null)[]): string | null {
  const said = complaints.filter((complaint) => complaint !== null);
  return said.length === 0 ? null : said.join('; ');
}

// How large a cluster one machine is asked to be: each node is a process, each pod a network namespace.
import { isEndpoint, type World } from '#policy/world.ts';
import { SandboxError } from './error.ts';

const MOST_NODES = 99;
/** Attached one after the other, so many take half a minute. */
const MOST_PODS = 1000;

/** Throws where a world has more nodes or pods than a sandbox takes. Before anything is changed. */
export function checkSize(world: World): void {
  const pods = [...world.pods.values()].filter(isEndpoint).length;
  if (world.nodes.size > MOST_NODES) throw tooMany('nodes', world.nodes.size, MOST_NODES);
  if (pods > MOST_PODS) throw tooMany('pods', pods, MOST_PODS);
}

function tooMany(what: string, count: number, most: number): SandboxError {
  const message = `there would be ${count} ${what}, and a sandbox has ${most} at most`;
  return new SandboxError('too-large', message, `leave ${what} out, or ask 'moat reach', which needs no sandbox`);
}

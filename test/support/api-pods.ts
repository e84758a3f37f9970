// A real API server with two pods of a bed, and agents that follow it: all of it goes when the test has ended.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { mountBpffs, removeInstancePins } from '#kernel/bpffs.ts';
import { fillPlane, type RunningAgent, stopAgent } from './api-agent.ts';
import { instanceName } from './cluster.ts';
import { ControlPlane } from './control-plane.ts';
import { PodBed } from './pod-bed.ts';

export type ApiPods = {
  readonly instance: string;
  readonly folder: string;
  readonly bed: PodBed;
  readonly plane: ControlPlane;
  /** Agents that are to be stopped in the end: a test puts those here that it starts. */
  readonly agents: RunningAgent[];
};

/** This process is in the bed's router from here on, and so is whatever it starts. */
export async function apiPods(t: TestContext, name: string): Promise<ApiPods> {
  mountBpffs();
  const instance = instanceName();
  const folder = mkdtempSync(join(tmpdir(), `moat-${name}-`));
  const bed = new PodBed(name, 2);
  const agents: RunningAgent[] = [];
  const plane = await ControlPlane.start(['agent']);
  t.after(async () => {
    for (const agent of agents) await stopAgent(agent);
    await plane.close();
    removeInstancePins(instance);
    bed.destroy();
    rmSync(folder, { recursive: true });
  });
  await fillPlane(plane, bed);
  return { instance, folder, bed, plane, agents };
}

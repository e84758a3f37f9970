// What the process itself takes.
import { readdirSync } from 'node:fs';

export type ProcessFacts = {
  readonly cpuSeconds: number;
  readonly residentBytes: number;
  readonly startSeconds: number;
  readonly openFds: number;
};

export function processFacts(): ProcessFacts {
  const { user, system } = process.cpuUsage();
  return {
    cpuSeconds: (user + system) / 1e6,
    residentBytes: process.memoryUsage.rss(),
    startSeconds: performance.timeOrigin / 1000,
    openFds: readdirSync('/proc/self/fd').length,
  };
}

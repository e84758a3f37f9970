// Every command, with the file that defines it. Loaded one at a time.
import type { Command } from 'commander';

/** A command's file: adds options and an action, which gives `done` the exit code. */
export type CommandFile = { readonly define: (command: Command, done: (exitCode: number) => void) => void };

type Entry = { readonly name: string; readonly summary: string; readonly load: () => Promise<CommandFile> };

export const COMMANDS: readonly Entry[] = [
  {
    name: 'probe',
    summary: 'try every pod to every pod, by packets or by simulation',
    load: () => import('./probe.ts'),
  },
  { name: 'reach', summary: 'who can reach whom, as workloads', load: () => import('./reach.ts') },
  { name: 'explain', summary: 'the verdict on one connection, and why', load: () => import('./explain.ts') },
  {
    name: 'sandbox',
    summary: 'pods of manifests as network namespaces on this machine: up, apply, probe, status, down',
    load: () => import('./sandbox.ts'),
  },
  { name: 'agent', summary: 'the node daemon', load: () => import('./agent.ts') },
  {
    name: 'demo',
    summary: 'the tour: before, after, a live edit, the denied explained',
    load: () => import('./demo.ts'),
  },
];

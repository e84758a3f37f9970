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
  { name: 'status', summary: 'what an agent knows of itself', load: () => import('./status.ts') },
  { name: 'observe', summary: 'flows as they happen, with names and rules', load: () => import('./observe.ts') },
  {
    name: 'bypass',
    summary: 'let pass for a time what policy denies: the way out when policy has gone wrong',
    load: () => import('./bypass.ts'),
  },
  {
    name: 'install',
    summary: 'what a cluster and its nodes have and lack for Moat',
    load: () => import('./install.ts'),
  },
  { name: 'uninstall', summary: 'take away what an agent has left on this node', load: () => import('./uninstall.ts') },
  {
    name: 'demo',
    summary: 'the tour: before, after, a live edit, the denied explained',
    load: () => import('./demo.ts'),
  },
];

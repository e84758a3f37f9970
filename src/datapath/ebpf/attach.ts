// Which way hooks are attached on this kernel, and the change from one to the other.
import { ClsactHooks } from './clsact-hooks.ts';
import type { AttachMode, HookSetup, StagedHooks } from './hooks.ts';
import { FiltersThenLinks } from './staged-hooks.ts';
import { dropLinks } from './tcx-hooks.ts';

/** Hooks of one way; whatever an earlier process hung on an interface in the other goes once this one's are there. */
export function makeHooks(mode: AttachMode, setup: HookSetup): StagedHooks {
  if (mode === 'tcx') return new FiltersThenLinks(setup);
  const hooks = new ClsactHooks(setup);
  const attach = (interfaceIndex: number): void => {
    hooks.attach(interfaceIndex);
    dropLinks(setup, interfaceIndex);
  };
  return {
    attach,
    attachNew: attach,
    early: new Set(),
    stands: (interfaceIndex) => hooks.stands(interfaceIndex),
    detach: (interfaceIndex) => hooks.detach(interfaceIndex),
    look: (interfaceIndex, isPinned) => hooks.look(interfaceIndex, isPinned),
    repair: (interfaceIndex) => hooks.repair(interfaceIndex),
    forgetGone: () => hooks.forgetGone(),
    close: () => hooks.close(),
  };
}

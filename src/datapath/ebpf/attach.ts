// Which way hooks are attached on this kernel, and the change from one to the other.
import { ClsactHooks, dropFilters } from './clsact-hooks.ts';
import type { AttachMode, HookSetup, Hooks } from './hooks.ts';
import { dropLinks, TcxHooks } from './tcx-hooks.ts';

/** Hooks of one way; whatever an earlier process hung on an interface in the other goes once this one's are there. */
export function makeHooks(mode: AttachMode, setup: HookSetup): Hooks {
  const hooks = mode === 'tcx' ? new TcxHooks(setup) : new ClsactHooks(setup);
  const dropOther = mode === 'tcx' ? dropFilters : dropLinks;
  return {
    attach: (interfaceIndex) => {
      hooks.attach(interfaceIndex);
      dropOther(setup, interfaceIndex);
    },
    stands: (interfaceIndex) => hooks.stands(interfaceIndex),
    detach: (interfaceIndex) => hooks.detach(interfaceIndex),
    look: (interfaceIndex) => hooks.look(interfaceIndex),
    repair: (interfaceIndex) => hooks.repair(interfaceIndex),
    forgetGone: () => hooks.forgetGone(),
    close: () => hooks.close(),
  };
}

// `moat probe --datapath ebpf`: a sandbox of the manifests comes up, is probed by real packets, and goes.
import type { SourceObject } from '#policy/object.ts';
import type { Semantics } from '#policy/world.ts';
import type { SandboxProbe } from '#sandbox/api.ts';
import { downSandbox } from '#sandbox/client.ts';
import { listInstances, readOwner } from '#sandbox/owner.ts';
import type { ProbeResult } from '#sandbox/probe.ts';
import { type Sandbox, startSandbox } from '#sandbox/sandbox.ts';
import { CommandError } from './errors.ts';
import { whileUp } from './interrupt.ts';
import { progressBar } from './progress.ts';

const NAME = 'probe';

type Ask = Pick<SandboxProbe, 'ports' | 'externals'>;

/** Something that can be probed: a sandbox of this process, or one that another holds. */
type Probed = { readonly probe: (ask: SandboxProbe) => Promise<ProbeResult> };

/** Brings a sandbox up for one probe. Its name carries this process' id, so that probes run side by side. */
export async function probeInSandbox(
  objects: readonly SourceObject[],
  semantics: Semantics,
  ask: Ask,
): Promise<ProbeResult> {
  await removeDeadProbes();
  const start = (): Promise<Sandbox> =>
    startSandbox({
      name: `${NAME}${process.pid}`,
      paths: [],
      semantics,
      onEvent: (event) => {
        if (event.kind === 'notice') console.error(`moat: ${event.text}`);
      },
    });
  return await whileUp(start, async (sandbox) => {
    await sandbox.setObjects(objects);
    return await probeNow(sandbox, ask);
  });
}

/** What an earlier probe left that was killed: nobody will use its name again. */
async function removeDeadProbes(): Promise<void> {
  const dead = listInstances().filter((name) => name.startsWith(NAME) && readOwner(name) === null);
  for (const name of dead) await downSandbox(name);
}

/** Probes; a connection that proved nothing ends the command, since it is no verdict. */
export async function probeNow(probed: Probed, ask: Ask): Promise<ProbeResult> {
  const bar = progressBar('probing');
  try {
    const result = await probed.probe({ ...ask, progress: bar.show });
    if (result.errors.length > 0) throw new CommandError(failureText(result.errors));
    return result;
  } finally {
    bar.end();
  }
}

function failureText(errors: ProbeResult['errors']): string {
  const lines = errors
    .slice(0, 10)
    .map(({ from, to, port, protocol, message }) => `${from} → ${to} ${port}/${protocol}: ${message}`);
  const more = errors.length > 10 ? [`… and ${errors.length - 10} more`] : [];
  return [`${errors.length} connections proved neither allow nor deny:`, ...lines, ...more].join('\n  ');
}

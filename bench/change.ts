// How long a changed policy takes to reach packets: from handing over the object to the first packet judged by it.
import { UDP } from '#net/protocol.ts';
import type { SourceObject } from '#policy/object.ts';
import type { Sandbox } from '#sandbox/sandbox.ts';

/** Milliseconds of each change; a packet goes out every millisecond, so each figure has that much too much at most. */
export type ChangeTimes = { readonly cut: readonly number[]; readonly opened: readonly number[] };

const LIMIT_MS = 3000;

/**
 * Takes the one rule away that lets the client speak to the near server, and gives it back, `times` times. Throws where
 * a change does not show within three seconds.
 */
export async function measureChanges(sandbox: Sandbox, times: number): Promise<ChangeTimes> {
  const own = sandbox.objects.find((object) => object.kind === 'NetworkPolicy' && object.name === 'own');
  if (own === undefined) throw new Error('the bench world has no policy named own');
  const port = { protocol: UDP, port: 5000 };
  const stream = await sandbox.openStream({ from: 'bench/client', to: 'bench/near', port });
  const cut: number[] = [];
  const opened: number[] = [];
  const change = async (object: SourceObject, next: 'firstSilent' | 'firstAnswered'): Promise<number> => {
    const startMs = performance.now();
    const applied = sandbox.applyObjects([object]);
    const seenMs = await stream[next](startMs, LIMIT_MS);
    await applied;
    if (seenMs === null) throw new Error(`the changed policy did not meet a packet within ${LIMIT_MS} ms`);
    return seenMs - startMs;
  };
  try {
    for (let turn = 0; turn < times; turn++) {
      cut.push(await change(closed(own), 'firstSilent'));
      opened.push(await change(own, 'firstAnswered'));
    }
  } finally {
    await stream.close();
  }
  return { cut, opened };
}

function closed(policy: SourceObject): SourceObject {
  const spec = { podSelector: {}, policyTypes: ['Ingress', 'Egress'] };
  const content = policy.content as Record<string, unknown>;
  return { ...policy, content: { ...content, spec } };
}

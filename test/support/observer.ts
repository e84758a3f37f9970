// Who is told what an agent of a test does: its log goes to stderr, as text.
import { Log } from '#agent/log.ts';
import { Meters } from '#agent/metrics/meters.ts';
import { Observer } from '#agent/observer.ts';
import { UNWATCHED } from '#agent/process-options.ts';

export function quietObserver(): Observer {
  const parts = { log: new Log(UNWATCHED.log), meters: new Meters(), note: () => undefined };
  return new Observer({ ...parts, logDenies: UNWATCHED.logDenies });
}

// The agent's process as a sandbox starts it: `node main.ts OPTIONS`, OPTIONS a JSON object (AgentProcessOptions).
import { flushCompileCache } from 'node:module';
import { type AgentProcessOptions, FAILURE_MARK } from './process-options.ts';
import { runAgent } from './run.ts';

async function main(options: AgentProcessOptions): Promise<void> {
  const agent = await runAgent(options);
  // For the agents after this one; where no cache is asked for, nothing happens.
  flushCompileCache();
  const end = (): void => {
    agent.close();
    process.exit(0);
  };
  process.on('SIGTERM', end);
  process.on('SIGINT', end);
  // Its parent holds the other end: it is gone when this closes, however it ended.
  process.stdin.on('end', end).on('error', end).resume();
}

/**
 * A process that can't start ends: the kernel goes on enforcing, and whoever supervises tries again. The log gets the
 * whole of it, and last the message alone, which is what people are shown.
 */
function fail(error: unknown): void {
  console.error(error);
  console.error(`${FAILURE_MARK}${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
  setImmediate(() => process.exit(1));
}

main(JSON.parse(process.argv[2] ?? '{}') as AgentProcessOptions).catch(fail);

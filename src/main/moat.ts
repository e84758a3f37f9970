// The `moat` command. `./moat` sets NODE_COMPILE_CACHE; whoever starts this file itself gets the same cache from here.
import { enableCompileCache } from 'node:module';
import { join } from 'node:path';

// Code that root may run is for nobody else to change.
process.umask(process.umask() | 0o022);
enableCompileCache(join(import.meta.dirname, '../../.moat/compile-cache'));
const { run } = await import('#cli/run.ts');
process.exitCode = await run(process.argv.slice(2));

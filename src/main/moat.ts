// The `moat` command: keeps compiled sources in a cache beside the checkout, then runs the command line.
import { enableCompileCache } from 'node:module';
import { join } from 'node:path';

enableCompileCache(join(import.meta.dirname, '../../.moat/compile-cache'));
const { run } = await import('#cli/run.ts');
process.exitCode = await run(process.argv.slice(2));

// A process that brings a sandbox up, says so, and waits to be killed: `hold-sandbox.ts NAME FOLDER`.
import { startSandbox } from '#sandbox/sandbox.ts';

const [, , name = '', folder = ''] = process.argv;
await startSandbox({ name, paths: [folder] });
console.log('up');
setInterval(() => undefined, 60_000);

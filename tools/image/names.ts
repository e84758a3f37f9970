// What the agent's image is called, and where it is built.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ARCHITECTURE } from './oci.ts';

const ROOT = join(import.meta.dirname, '../..');
const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { readonly version: string };

/** No registry has this name, nor can one ever (RFC 6761). */
export const AGENT_IMAGE: string = `moat.test/moat:${version}`;
export const AGENT_ARCHIVE: string = join(ROOT, 'build/image', `${ARCHITECTURE}.tar`);

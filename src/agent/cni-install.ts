// How a node's container runtime finds Moat: the plugin among its CNI plugins, and a network configuration that names it.
// The configuration makes the node ready for pods, so it comes last, and only once pods can be attached.

import { spawnSync } from 'node:child_process';
import {
  accessSync,
  constants,
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fieldsOf, isFields } from '#policy/fields.ts';

export type CniPlaces = {
  /** Where the runtime looks for plugins: /opt/cni/bin, mostly. */
  readonly pluginFolder: string;
  /** The network configuration: a runtime takes the first of its folder, by name. */
  readonly config: string;
  /** Another CNI's, behind whose plugins Moat's comes; absent where Moat makes the links of pods. */
  readonly behind?: string | undefined;
};

/** What the plugin needs of the agent. */
export type CniPaths = { readonly socket: string; readonly spool: string };

/** What was put in place. */
export type Installed = {
  /** The configuration. */
  readonly text: string;
  /** Ports of the node can lead to pods, or that is another CNI's matter. */
  readonly hostPorts: boolean;
};

const PLUGIN = 'moat-cni';
const BUILT = join(import.meta.dirname, '../../build/cni', PLUGIN);
/** A runtime takes the highest of `cniVersions` that it speaks; one that does not know that field takes `cniVersion`. */
const OLDEST = '1.0.0';
const VERSIONS = [OLDEST, '1.1.0'];
const CHAINED_VERSIONS: readonly string[] = ['0.3.1', '0.4.0', ...VERSIONS];
/** The standard plugin that leads ports of the node to pods (`hostPort`). */
const PORTMAP = { type: 'portmap', capabilities: { portMappings: true } };
/** Behind ours, where the runtime has them; the other one shapes what pods with `kubernetes.io/ingress-bandwidth` and the like send and get. */
const STANDARD = [PORTMAP, { type: 'bandwidth', capabilities: { bandwidth: true } }];
const ANSWER_MS = 5000;

/** Throws, in words for people, where the files could not be written later. */
export function checkCniPlaces({ pluginFolder, config }: CniPlaces): void {
  for (const folder of [pluginFolder, dirname(config)]) {
    try {
      accessSync(folder, constants.R_OK | constants.W_OK | constants.X_OK);
    } catch (cause) {
      throw new Error(`${folder} is no folder that can be written to: make it, or name the one that the runtime uses`, {
        cause,
      });
    }
  }
  if (!existsSync(BUILT)) throw new Error(`${BUILT} is missing: build it with tools/build-cni.sh`);
}

/**
 * Puts both files in place: whoever reads them meanwhile sees the one of before or the new one, whole. Throws where the other
 * CNI's configuration is not there, or none that Moat's plugin can come behind: nothing is put in place then.
 */
export function installCni(places: CniPlaces, paths: CniPaths): Installed {
  const { pluginFolder, config, behind } = places;
  const hostPorts = behind !== undefined || existsSync(join(pluginFolder, PORTMAP.type));
  const network = behind === undefined ? ownNetwork(pluginFolder, paths) : networkBehind(behind, paths);
  const text = `${JSON.stringify(network, null, 2)}\n`;
  // No name that a runtime would read meanwhile, and none that another process writes to.
  place(join(pluginFolder, PLUGIN), (aside) => copyFileSync(BUILT, aside));
  place(config, (aside) => writeFileSync(aside, text, { mode: 0o600 }));
  return { text, hostPorts };
}

function ownNetwork(pluginFolder: string, paths: CniPaths): object {
  const standard = STANDARD.filter(({ type }) => existsSync(join(pluginFolder, type)));
  // A runtime calls all plugins of a list by one version.
  const spoken = standard.map(({ type }) => commonVersions(join(pluginFolder, type)));
  const cniVersions = VERSIONS.filter((version) => spoken.every((each) => each.includes(version)));
  return { cniVersion: OLDEST, cniVersions, name: 'pods', plugins: [{ type: PLUGIN, ...paths }, ...standard] };
}

/** All that the other CNI says, and Moat's plugin last. A file of one plugin, as older CNIs have it, becomes a list. */
function networkBehind(path: string, paths: CniPaths): object {
  if (!existsSync(path)) throw new Error(`${path}, behind which Moat's plugin is to come, is not there`);
  const { cniVersion, name, plugins, ...rest } = fieldsOf(parse(readFileSync(path, 'utf8')));
  const theirs = Array.isArray(plugins) ? plugins : [rest];
  const isList = theirs.length > 0 && theirs.every((each) => isFields(each) && typeof each.type === 'string');
  if (!isList || typeof name !== 'string')
    throw new Error(`${path} is no CNI configuration that has a name and plugins`);
  if (theirs.some((each) => each.type === PLUGIN)) throw new Error(`${path} names ${PLUGIN} itself`);
  if (!CHAINED_VERSIONS.includes(String(cniVersion)))
    throw new Error(`${path} is of CNI ${cniVersion ?? 'without a version'}, which ${PLUGIN} does not speak`);
  const own = { type: PLUGIN, chained: true, ...paths };
  return { cniVersion, name, ...(Array.isArray(plugins) ? rest : {}), plugins: [...theirs, own] };
}

/** Those of ours that a plugin says it speaks; the oldest where it says nothing, as it may need libraries that only the node has. */
function commonVersions(plugin: string): readonly string[] {
  const input = JSON.stringify({ cniVersion: OLDEST });
  const env = { CNI_COMMAND: 'VERSION' };
  const { stdout } = spawnSync(plugin, { env, input, encoding: 'utf8', timeout: ANSWER_MS });
  const { supportedVersions } = fieldsOf(parse(stdout ?? ''));
  const common = VERSIONS.filter((each) => Array.isArray(supportedVersions) && supportedVersions.includes(each));
  return common.includes(OLDEST) ? common : [OLDEST];
}

function place(path: string, write: (aside: string) => void): void {
  const aside = join(dirname(path), `.${basename(path)}.${process.pid}`);
  try {
    write(aside);
    renameSync(aside, path);
  } finally {
    rmSync(aside, { force: true });
  }
}

/**
 * Removes both, the configuration first: from then on the runtime asks whoever is next for the network of pods. One that
 * does not name the plugin is somebody else's and stays. Returns what was removed.
 */
export function removeCni({ pluginFolder, config }: CniPlaces): readonly string[] {
  const plugin = join(pluginFolder, PLUGIN);
  const ours = [...(namesPlugin(config) ? [config] : []), ...(existsSync(plugin) ? [plugin] : [])];
  for (const path of ours) rmSync(path);
  return ours;
}

/** Whether a network configuration is there, and hands calls to Moat's plugin. */
export function namesPlugin(config: string): boolean {
  if (!existsSync(config)) return false;
  const { plugins } = fieldsOf(parse(readFileSync(config, 'utf8')));
  return Array.isArray(plugins) && plugins.some((each) => isFields(each) && each.type === PLUGIN);
}

/** Names of the configurations in a folder, in the order in which a runtime takes them: it has use for the first alone. */
export function networkConfigs(folder: string): readonly string[] {
  return existsSync(folder)
    ? readdirSync(folder)
        .filter((name) => /\.(conf|conflist|json)$/.test(name))
        .sort()
    : [];
}

/** What is not as it was put in place, and gives new pods to others, or to nobody; null where all of it stands. */
export function cniProblem({ pluginFolder, config }: CniPlaces, text: string): string | null {
  const folder = dirname(config);
  const [first = ''] = networkConfigs(folder);
  const plugin = join(pluginFolder, PLUGIN);
  if (!existsSync(config)) return `${config} is gone: new pods are not given to Moat`;
  if (!namesPlugin(config)) return `${config} was rewritten, and leaves Moat out: new pods are not given to it`;
  if (first !== basename(config) && !namesPlugin(join(folder, first)))
    return `${first} comes before ${basename(config)} in ${folder}: new pods are given to it, and not to Moat`;
  if (readFileSync(config, 'utf8') !== text) return `${config} was rewritten: it is not what this agent put there`;
  return existsSync(plugin) ? null : `${plugin} is gone: new pods can't start`;
}

/** Null where it is no JSON. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

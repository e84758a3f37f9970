// The CNI plugin and its configuration are put in place whole, and taken away where they are ours.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import { checkCniPlaces, installCni, removeCni } from './cni-install.ts';

const PATHS = { socket: '/run/moat/moat/agent-a.sock', spool: '/run/moat/moat/cni/spool' };
let folder = '';
let number = 0;
let places = { pluginFolder: '', config: '' };

describe('the plugin and its configuration, put where a container runtime looks', () => {
  before(() => {
    execFileSync('sh', [join(import.meta.dirname, '../../tools/build-cni.sh')]);
    folder = mkdtempSync(join(tmpdir(), 'moat-cni-install-'));
  });
  after(() => rmSync(folder, { recursive: true }));
  beforeEach(() => {
    const own = join(folder, String(number++));
    places = { pluginFolder: join(own, 'bin'), config: join(own, 'net.d/05-moat.conflist') };
    for (const each of ['bin', 'net.d']) mkdirSync(join(own, each), { recursive: true });
  });

  it('are a program and a list that names it, and nothing beside', () => {
    assert.equal(installCni(places, PATHS).hostPorts, false);
    assert.equal(statSync(join(places.pluginFolder, 'moat-cni')).mode & 0o111, 0o111);
    const { plugins, ...network } = JSON.parse(readFileSync(places.config, 'utf8'));
    assert.deepEqual(plugins, [{ type: 'moat-cni', ...PATHS }]);
    assert.deepEqual(network, { cniVersion: '1.0.0', cniVersions: ['1.0.0', '1.1.0'], name: 'pods' });
    assert.deepEqual(readdirSync(places.pluginFolder), ['moat-cni']);
    assert.deepEqual(readdirSync(join(places.config, '..')), ['05-moat.conflist']);
  });

  it('bring the plugins portmap and bandwidth along where the runtime has them, in versions that all speak', () => {
    const standard = [
      { type: 'portmap', capabilities: { portMappings: true } },
      { type: 'bandwidth', capabilities: { bandwidth: true } },
    ];
    const speak = (...outputs: readonly string[]): unknown => {
      for (const [index, output] of outputs.entries()) {
        const program = `#!/bin/sh\n[ "$CNI_COMMAND" = VERSION ] && echo '${output}'\n`;
        writeFileSync(join(places.pluginFolder, standard[index]?.type ?? ''), program, { mode: 0o755 });
      }
      assert.equal(installCni(places, PATHS).hostPorts, true);
      const { plugins, cniVersion, cniVersions } = JSON.parse(readFileSync(places.config, 'utf8'));
      assert.deepEqual(plugins.slice(1), standard.slice(0, outputs.length));
      assert.equal(cniVersion, '1.0.0');
      return cniVersions;
    };
    const [both, older] = [
      '{"supportedVersions":["0.4.0","1.0.0","1.1.0"]}',
      '{"supportedVersions":["0.4.0","1.0.0"]}',
    ];
    assert.deepEqual(speak(both), ['1.0.0', '1.1.0']);
    assert.deepEqual(speak(older), ['1.0.0']);
    assert.deepEqual(speak('exec format error'), ['1.0.0']);
    assert.deepEqual(speak(both, both), ['1.0.0', '1.1.0']);
    assert.deepEqual(speak(both, older), ['1.0.0']);
  });

  it('are replaced, not written to, so that whoever runs or reads them has the whole of one', () => {
    installCni(places, PATHS);
    const files = [join(places.pluginFolder, 'moat-cni'), places.config];
    const before = files.map((path) => statSync(path).ino);
    installCni(places, PATHS);
    for (const [index, path] of files.entries()) assert.notEqual(statSync(path).ino, before[index], path);
  });

  it('are both removed, once', () => {
    installCni(places, PATHS);
    assert.deepEqual(removeCni(places), [places.config, join(places.pluginFolder, 'moat-cni')]);
    assert.deepEqual(removeCni(places), []);
  });

  it("leave another's configuration of that name alone", () => {
    for (const text of ['{"plugins":[{"type":"bridge"}]}', 'no JSON']) {
      writeFileSync(places.config, text);
      assert.deepEqual(removeCni(places), []);
      assert.ok(existsSync(places.config));
    }
  });

  it('are refused, before anything is done, where there is no such folder', () => {
    assert.throws(() => checkCniPlaces({ ...places, pluginFolder: '/nowhere' }), /^Error: \/nowhere is no folder/);
    assert.throws(() => checkCniPlaces({ ...places, config: '/nowhere/05-moat.conflist' }), /^Error: \/nowhere is no/);
  });
});

// Whose a process is, by what /proc says of its cgroups: the kubelet's part of the path, in the words of each driver, and
// nothing that a pod puts below it or beside it.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { podNamespaces, podOf } from './pod-processes.ts';

const UID = '5e1f9b0a-3c1d-4a57-9d43-0c7a1b2c3d01';
const OTHER = '00000000-3c1d-4a57-9d43-0c7a1b2c3d01';
const HASH = '5e1f9b0a3c1d4a579d430c7a1b2c3d04';

test('a pod’s uid stands in its cgroup, however it is driven', () => {
  const rows: readonly [cgroups: string, uid: string | null][] = [
    [`0::/kubepods/burstable/pod${UID}/cri-1\n`, UID],
    [`12:pids:/kubepods/pod${HASH}/cri-1\n11:cpu:/\n0::/\n`, HASH],
    [
      '0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod5e1f9b0a_3c1d_4a57_9d43_0c7a1b2c3d01.slice/x.scope\n',
      UID,
    ],
    [`0::/../../pod${UID}/cri-1\n`, UID],
    [`0::/kubepods/pod${UID}`, UID],
    // Below its own, a pod may make what it likes.
    [`0::/kubepods/pod${UID}/cri-1/pod${OTHER}/x\n`, UID],
    ['0::/system.slice/containerd.service\n', null],
    [`0::/notapod${UID}/x\n`, null],
    [`0::/kubepods/pod${UID}0/x\n`, null],
    ['0::/kubepods/pod/x\n', null],
    ['', null],
  ];
  for (const [cgroups, uid] of rows) assert.equal(podOf(cgroups), uid, cgroups);
});

test('a process that can’t be looked at is a matter of its own pod alone', (t) => {
  const proc = mkdtempSync(join(tmpdir(), 'moat-proc-'));
  t.after(() => rmSync(proc, { recursive: true }));
  const make = (pid: string, uid: string): void => {
    mkdirSync(join(proc, pid));
    writeFileSync(join(proc, pid, 'cgroup'), `0::/kubepods/pod${uid}/cri-1\n`);
  };
  for (const [pid, uid] of [
    ['1', OTHER],
    ['2', UID],
    ['3', HASH],
  ] as const)
    make(pid, uid);
  // Where a folder should be: not even root may look.
  for (const pid of ['1', '2']) writeFileSync(join(proc, pid, 'ns'), '');
  mkdirSync(join(proc, '3', 'ns'));
  symlinkSync('net:[42]', join(proc, '3', 'ns/net'));
  const [hidden, seen, ...more] = podNamespaces(new Set([UID, HASH]), proc);
  assert.ok(hidden && 'why' in hidden && hidden.uid === UID);
  assert.match(hidden.why, /ENOTDIR/);
  assert.deepEqual([seen, more], [{ uid: HASH, path: join(proc, '3/ns/net'), id: 'net:[42]' }, []]);
});

test('whoever is in this namespace is no pod with one of its own', () => {
  assert.deepEqual(podNamespaces(new Set([UID])), []);
});

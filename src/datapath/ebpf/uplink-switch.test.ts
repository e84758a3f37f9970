// What takes packets back to the host's stack by itself, and what becomes of hooks on uplinks that come and go. Needs root.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { closeObject, detachLink, getPinned } from '#kernel/bpf.ts';
import { mountBpffs, pinPath } from '#kernel/bpffs.ts';
import { ATTACH_MODES } from '#test/support/attach-modes.ts';
import { needsRoot } from '#test/support/needs.ts';
import { UplinkBed } from '#test/support/uplink-bed.ts';

const BOTH = { into: true, out: true };
const NONE = { into: false, out: false };

/** Which ways past the stack new connections take at this moment; each arrives all the same. */
function ways(bed: UplinkBed): { readonly into: boolean; readonly out: boolean } {
  bed.next();
  const before = bed.passed;
  assert.equal(bed.sendIn(bed.inward(4)).length, 1);
  bed.next();
  assert.equal(bed.sendOut(bed.outward(4)).length, 1);
  return { into: bed.passed.into > before.into, out: bed.passed.out > before.out };
}

for (const attach of ATTACH_MODES) {
  describe(`hooks of uplinks by ${attach} that somebody touches (root)`, needsRoot, () => {
    let bed: UplinkBed;

    before(() => {
      mountBpffs();
      bed = new UplinkBed('touch', attach);
    });

    after(() => bed.destroy());

    it('leave everything to the stack beside somebody’s program, wherever it stands, and do not push it aside', () => {
      assert.deepEqual(ways(bed), BOTH);
      bed.byStack(() => {
        assert.deepEqual(ways(bed), NONE);
        assert.deepEqual(bed.datapath.repair(), []);
      });
      assert.deepEqual(ways(bed), BOTH);
    });

    it('are put back where they are taken off', () => {
      const index = bed.indexOf('u1');
      if (attach === 'clsact') bed.net.onNode('tc', 'qdisc', 'del', 'dev', 'u1', 'clsact');
      else unlink(`${pinPath(bed.net.bed.prefix, 'node-a')}/link_${index}_from_node`);
      assert.equal(ways(bed).into, false);
      const repairs = bed.datapath.repair().map(({ interfaceIndex, found, now }) => [interfaceIndex, found, now]);
      assert.deepEqual(repairs, [[index, 'absent', 'first']]);
      assert.deepEqual(ways(bed), BOTH);
    });
  });
}

function unlink(path: string): void {
  const link = getPinned(path);
  assert.ok(link !== null);
  detachLink(link);
  closeObject(link);
}

describe('what must take the stack (root)', needsRoot, () => {
  let bed: UplinkBed;
  const onNode = (command: string): string => bed.net.onNode(...(command.split(' ') as [string, ...string[]]));

  before(() => {
    mountBpffs();
    bed = new UplinkBed('switch', ATTACH_MODES[0] ?? 'clsact');
  });

  after(() => bed.destroy());

  it('what is for or from a pod whose interface has a queue', () => {
    onNode('tc qdisc add dev h1 root tbf rate 1gbit burst 1mb latency 1ms');
    bed.refresh();
    assert.deepEqual(ways(bed), NONE);
    onNode('tc qdisc del dev h1 root');
    bed.refresh();
    assert.deepEqual(ways(bed), BOTH);
  });

  it('what leaves by another interface than an uplink, or comes from where answers do not go', () => {
    onNode('ip link add t1 type veth peer name t2');
    for (const name of ['t1', 't2']) onNode(`ip link set ${name} up`);
    onNode('ip route add 10.10.0.9/32 dev t1');
    bed.next();
    const before = bed.passed;
    assert.equal(bed.sendIn(bed.inward(4)).length, 1);
    assert.deepEqual(bed.sendOut(bed.outward(4)), []);
    assert.deepEqual(bed.passed, before);
    onNode('ip link del t1');
    assert.deepEqual(ways(bed), BOTH);
  });

  it('what comes by an interface where the node does not forward', () => {
    const path = '/proc/sys/net/ipv4/conf/u1/forwarding';
    writeFileSync(path, '0');
    bed.refresh();
    bed.next();
    const before = bed.passed;
    assert.deepEqual(bed.sendIn(bed.inward(4)), []);
    assert.deepEqual(bed.passed, before);
    writeFileSync(path, '1');
    bed.refresh();
    assert.deepEqual(ways(bed), BOTH);
  });

  it('everything, where some packets have to be encrypted', () => {
    const policy = 'src 192.0.2.200 dst 192.0.2.201 dir out';
    onNode(`ip xfrm policy add ${policy}`);
    bed.refresh();
    assert.deepEqual(ways(bed), NONE);
    onNode(`ip xfrm policy delete ${policy}`);
    bed.refresh();
    assert.deepEqual(ways(bed), BOTH);
  });

  it('a packet that is larger than the pod’s interface, or than the route: its sender hears of it', () => {
    const payload = new Uint8Array(1340);
    const { outsider } = bed.net;
    onNode('ip link set h1 mtu 1300');
    onNode('ip -6 route change fd10::/64 via 2001:db8::2 mtu lock 1300');
    bed.refresh();
    bed.next();
    const before = bed.passed;
    assert.equal(bed.send(bed.inward(6, { payload }), outsider, outsider).length, 1);
    onNode('ip link set h1 mtu 1500');
    bed.refresh();
    assert.equal(bed.send(bed.outward(6, { payload }), bed.at(0), bed.at(0)).length, 1);
    assert.deepEqual(bed.passed, before);
    onNode('ip -6 route change fd10::/64 via 2001:db8::2');
    bed.next();
    assert.equal(bed.sendIn(bed.inward(6, { payload })).length, 1);
    bed.next();
    assert.equal(bed.sendOut(bed.outward(6, { payload })).length, 1);
    assert.deepEqual(bed.passed, { into: before.into + 1, out: before.out + 1 });
  });

  it('not what goes by an uplink that has just come; and one that went is forgotten', () => {
    onNode('ip link add u2 type veth peer name u3');
    for (const name of ['u2', 'u3']) onNode(`ip link set ${name} up`);
    onNode('ip addr add 192.0.2.1/32 dev u2');
    onNode('ip route add 10.10.0.9/32 dev u2');
    onNode('ip neigh replace 10.10.0.9 lladdr 02:00:00:00:00:01 dev u2');
    bed.next();
    const before = bed.passed;
    bed.sendOut(bed.outward(4));
    assert.deepEqual(bed.passed, before);
    bed.refresh();
    bed.next();
    bed.sendOut(bed.outward(4));
    assert.deepEqual(bed.passed, { ...before, out: before.out + 1 });
    onNode('ip link del u2');
    assert.deepEqual(
      bed.datapath.repair().map(({ found, now }) => [found, now]),
      [['absent', 'absent']],
    );
    bed.refresh();
    assert.deepEqual(bed.datapath.repair(), []);
    assert.deepEqual(ways(bed), BOTH);
  });
});

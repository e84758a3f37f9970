// Flows that the node's own netfilter translates, as kube-proxy does: they work, policy judges them, and they never get
// past the stack that translates their replies. Needs root.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { CT_VALUE, ENTRY_FLAG } from '#datapath/ebpf/encode/abi.gen.ts';
import { tablesPath } from '#datapath/ebpf/generations.ts';
import { allKeys, closeObject, getPinned, handleOf, lookupElement, updateBatch } from '#kernel/bpf.ts';
import { formatAddress } from '#net/address.ts';
import { TCP, UDP } from '#net/protocol.ts';
import { netnsPath, nodeNetns, worldNetns } from '#sandbox/names.ts';
import { type Sandbox, startSandbox } from '#sandbox/sandbox.ts';
import { instanceName, podText, policyText } from '#test/support/cluster.ts';
import { Conversation, MOMENT_MS, type Talk, talks } from '#test/support/conversation.ts';
import { needsFirewall, needsRoot } from '#test/support/needs.ts';
import { address } from '#test/support/pod-bed.ts';

const OUTSIDE = '192.0.2.1';
const SERVICE = '10.96.0.1';
const PROTOCOLS = [
  ['TCP', TCP],
  ['UDP', UDP],
] as const;

/** d is as c, but nobody may speak to it. */
const MANIFESTS = [
  podText('a', { node: 'one' }),
  podText('b', { node: 'one' }),
  podText('c', { node: 'two' }),
  podText('d', { node: 'two' }),
  policyText('closed', 'podSelector: {matchLabels: {app: d}}\npolicyTypes: [Ingress]'),
].join('');

type Place = { readonly netns: string; readonly address: string };

describe('translated flows (root)', needsRoot.skip === false ? needsFirewall : needsRoot, () => {
  let sandbox: Sandbox;
  let folder: string;
  let port = 20_000;
  const node = (name: string): string => nodeNetns(sandbox.name, name);

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'moat-test-'));
    writeFileSync(join(folder, 'all.yaml'), MANIFESTS);
    sandbox = await startSandbox({ name: instanceName(), paths: [folder], nodes: 2, watch: false });
  });

  after(async () => {
    await sandbox.down();
    rmSync(folder, { recursive: true });
  });

  async function place(name: string): Promise<Place> {
    const { pods, nodes } = await sandbox.status();
    const found = pods.find((pod) => pod.name === `shop/${name}`) ?? nodes.find((each) => each.name === name);
    assert.ok(found?.addresses[0]);
    return { netns: netnsPath(found.netns), address: found.addresses[0] };
  }

  const outside = (): Place => ({ netns: netnsPath(worldNetns(sandbox.name)), address: OUTSIDE });

  /** A conversation that means `to`, and which is held with a pod's port. */
  function talkOf(protocol: Talk['protocol'], client: Place, server: Place, to: string): Talk {
    return {
      ...{ protocol, client: client.netns, server: server.netns },
      to: { address: address(to), port: 80 },
      at: { address: address(server.address), port },
    };
  }

  /** Rules of NAT on a node, for as long as `work` runs; a port of its own, so that no flow of before is met. */
  async function translated<T>(name: string, rules: readonly string[], work: () => Promise<T>): Promise<T> {
    port++;
    const run = (rule: string, verb: string): void => {
      const args = rule.replaceAll('PORT', String(port)).split(' ');
      execFileSync('ip', ['netns', 'exec', node(name), 'iptables', '-w', '-t', 'nat', verb, ...args]);
    };
    for (const rule of rules) run(rule, '-A');
    try {
      return await work();
    } finally {
      for (const rule of rules) run(rule, '-D');
    }
  }

  const dnat = (protocol: string, to: string, server: Place): string =>
    `PREROUTING -d ${to} -p ${protocol.toLowerCase()} --dport 80 -j DNAT --to-destination ${server.address}:PORT`;

  for (const [name, protocol] of PROTOCOLS) {
    it(`${name} to a Service, whose pod is on the same node`, async () => {
      const [a, b] = [await place('a'), await place('b')];
      await translated('one', [dnat(name, SERVICE, b)], async () => {
        assert.ok(talks(talkOf(protocol, a, b, SERVICE)));
      });
    });

    it(`${name} to a Service, whose pod is on another node, where policy judges it`, async () => {
      const [a, c, d] = [await place('a'), await place('c'), await place('d')];
      await translated('one', [dnat(name, SERVICE, c)], async () => {
        assert.ok(talks(talkOf(protocol, a, c, SERVICE)));
      });
      await translated('one', [dnat(name, SERVICE, d)], async () => {
        assert.equal(talks(talkOf(protocol, a, d, SERVICE)), false);
      });
    });

    it(`${name} to a port of the node, from outside and from a pod elsewhere, who are seen as they are`, async () => {
      const [b, c, one] = [await place('b'), await place('c'), await place('one')];
      for (const client of [outside(), c]) {
        await translated('one', [dnat(name, one.address, b)], async () => {
          assert.ok(talks(talkOf(protocol, client, b, one.address)));
        });
      }
    });

    it(`${name} to a port of the node, for a pod elsewhere, in the node's own name`, async () => {
      const [c, one] = [await place('c'), await place('one')];
      const masquerade = `POSTROUTING -s ${OUTSIDE} -d ${c.address} -j MASQUERADE`;
      await translated('one', [dnat(name, one.address, c), masquerade], async () => {
        assert.ok(talks(talkOf(protocol, outside(), c, one.address)));
      });
    });
  }

  it('what goes outside is masqueraded', async () => {
    const [a, one] = [await place('a'), await place('one')];
    await translated('one', [`POSTROUTING -s ${a.address} ! -d 10.244.0.0/16 -j MASQUERADE`], async () => {
      const talk = talkOf(UDP, a, outside(), OUTSIDE);
      const conversation = new Conversation({ ...talk, to: { ...talk.to, port } });
      try {
        assert.ok(conversation.exchange(5));
        assert.equal(conversation.seen === null ? null : formatAddress(conversation.seen), one.address);
      } finally {
        conversation.close();
      }
    });
  });

  it('is broken where a translated flow is taken for one that may go past the stack', async () => {
    const [a, b] = [await place('a'), await place('b')];
    for (const [name, protocol] of PROTOCOLS) {
      await translated('one', [dnat(name, SERVICE, b)], async () => {
        const conversation = new Conversation(talkOf(protocol, a, b, SERVICE));
        try {
          assert.ok(conversation.exchange(2));
          flagAll();
          assert.equal(conversation.exchange(1, MOMENT_MS), false);
        } finally {
          conversation.close();
        }
      });
    }
  });

  /** Marks every flow of node one as seen untranslated, which those of this test are not. */
  function flagAll(): void {
    const fd = getPinned(`${tablesPath(sandbox.name, 'one')}/ct_map`);
    assert.ok(fd !== null);
    const flows = handleOf(fd);
    for (const key of allKeys(flows)) {
      const value = Buffer.alloc(CT_VALUE.size);
      if (!lookupElement(flows, key, value)) continue;
      value.writeUInt8(value.readUInt8(CT_VALUE.flags) | ENTRY_FLAG.DIRECT, CT_VALUE.flags);
      updateBatch(flows, key, value, 1);
    }
    closeObject(fd);
  }
});

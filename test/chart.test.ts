// The chart says what it should: rights, security, and files that are made from it.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { loadAll } from 'js-yaml';
import { KINDS, SERVICE_KINDS } from '#cluster/kubernetes/kinds.ts';
import { type Fields, fieldsOf, itemsOf } from '#policy/fields.ts';
import { AGENT_ENVIRONMENT, AGENT_FLAGS } from '#sandbox/agent-process.ts';
import { needsHelm } from '#test/support/needs.ts';
import { CHART, helm, manifest, render } from '../tools/chart.ts';
import { AGENT_IMAGE } from '../tools/image/names.ts';

const ROOT = join(import.meta.dirname, '..');

/** The one object of a kind, of the chart with these values. */
function rendered(kind: string, values: Readonly<Record<string, unknown>> = {}): Fields {
  const found = objectsOf(render(values)).filter((each) => each.kind === kind);
  assert.equal(found.length, 1, kind);
  return found[0] ?? {};
}

function objectsOf(text: string): readonly Fields[] {
  return loadAll(text).map(fieldsOf);
}

function podOf(values: Readonly<Record<string, unknown>> = {}): Fields {
  return fieldsOf(fieldsOf(fieldsOf(rendered('DaemonSet', values).spec).template).spec);
}

function containersOf(pod: Fields): readonly Fields[] {
  return [...itemsOf(pod.initContainers), ...itemsOf(pod.containers)].map(fieldsOf);
}

/** `group/resource verb` for each right. */
function rightsOf(role: Fields): readonly string[] {
  const rights = itemsOf(role.rules)
    .map(fieldsOf)
    .flatMap(({ apiGroups, resources, verbs, ...rest }) => {
      assert.deepEqual(rest, {}, 'whole kinds, as lists and watches ask for them');
      return itemsOf(apiGroups).flatMap((group) =>
        itemsOf(resources).flatMap((resource) => itemsOf(verbs).map((verb) => `${group}/${resource} ${verb}`)),
      );
    });
  return rights.sort();
}

/** `/apis/GROUP/VERSION/RESOURCE`, `/api/v1/RESOURCE`. */
function groupAndResource(path: string): string {
  const parts = path.split('/');
  return `${parts[1] === 'apis' ? parts[2] : ''}/${parts.at(-1)}`;
}

describe('the chart', needsHelm, () => {
  it('has nothing that helm lint complains of', () => {
    assert.match(helm(['lint', '--strict', CHART]), /0 chart\(s\) failed/);
  });

  it('gives an agent the right to list and watch each kind that it follows, to write Events, and no other right', () => {
    const events = ['create', 'get', 'patch'].map((verb) => `events.k8s.io/events ${verb}`);
    const wanted = (kinds: typeof KINDS): readonly string[] => {
      const own = kinds.flatMap(({ path }) => ['list', 'watch'].map((verb) => `${groupAndResource(path)} ${verb}`));
      return [...own, ...events].sort();
    };
    assert.deepEqual(rightsOf(rendered('ClusterRole')), wanted(KINDS));
    const serving = rightsOf(rendered('ClusterRole', { services: 'moat' }));
    assert.deepEqual(serving, wanted([...KINDS, ...SERVICE_KINDS]));
  });

  it('binds its own role to its own account, and no other', () => {
    const binding = rendered('ClusterRoleBinding');
    assert.equal(fieldsOf(binding.roleRef).name, 'moat');
    assert.deepEqual(itemsOf(binding.subjects), [{ kind: 'ServiceAccount', name: 'moat', namespace: 'kube-system' }]);
  });

  it('has no kinds beside these', () => {
    const kinds = objectsOf(render()).map(({ kind }) => kind);
    assert.deepEqual(kinds.sort(), ['ClusterRole', 'ClusterRoleBinding', 'DaemonSet', 'ServiceAccount']);
  });

  it('has metrics, and what the Prometheus operator reads, where they are asked for', () => {
    const metrics = { port: 9798, serviceMonitor: true, alerts: true };
    const objects = objectsOf(render({ metrics }));
    const [monitor, rules, service] = ['ServiceMonitor', 'PrometheusRule', 'Service'].map((kind) =>
      fieldsOf(objects.find((each) => each.kind === kind)?.spec),
    );
    assert.deepEqual(itemsOf(monitor?.endpoints), [{ port: 'metrics' }]);
    assert.deepEqual(itemsOf(service?.ports), [{ name: 'metrics', port: 9798, targetPort: 9798 }]);
    const alerts = readFileSync(join(CHART, 'files/alerts.yaml'), 'utf8');
    assert.deepEqual(rules, fieldsOf(objectsOf(alerts)[0]));
    const log = { format: 'json', level: 'debug', denies: true };
    const [agent = {}] = containersOf(podOf({ metrics: { port: 9798 }, log }));
    for (const flag of ['--metrics-address=:9798', '--log-format=json', '--log-level=debug', '--log-denies']) {
      assert.ok(itemsOf(agent.args).includes(flag), flag);
    }
    const [plain = {}] = containersOf(podOf());
    assert.equal(
      itemsOf(plain.args).some((flag) => /metrics|denies/.test(String(flag))),
      false,
    );
  });

  it('behind another CNI leaves the network between nodes to that one', () => {
    const own = (values: Readonly<Record<string, unknown>>): readonly unknown[] => {
      const [agent = {}] = containersOf(podOf(values));
      const flags = itemsOf(agent.args).filter((flag) => /routes|masquerade|behind/.test(String(flag)));
      return [...flags, ...itemsOf(agent.ports).map((port) => fieldsOf(port).name)];
    };
    const network = { routes: 'vxlan', masquerade: false };
    assert.deepEqual(own({ network }), ['--routes=vxlan', '--no-masquerade', 'health', 'tunnel']);
    const behind = '--cni-behind=/host/etc/cni/net.d/10-flannel.conflist';
    assert.deepEqual(own({ network, cni: { behind: '10-flannel.conflist' } }), [behind, 'health']);
    assert.throws(() => render({ cni: { behind: '../10-flannel.conflist' } }), /values don't meet the specifications/);
  });

  it('is refused with a value that it does not have, or that makes no sense', () => {
    for (const values of [
      { imagee: {} },
      { run: 'away' },
      { cni: { binFolder: 'opt' } },
      { healthPort: 0 },
      { mode: 'watch' },
    ]) {
      assert.throws(() => render(values), /values don't meet the specifications/, JSON.stringify(values));
    }
  });

  it('gives no container more of root than two capabilities, nor anything to write but its folders', () => {
    for (const run of ['agent', 'check', 'uninstall']) {
      for (const { name, securityContext } of containersOf(podOf({ run }))) {
        const { privileged = false, readOnlyRootFilesystem, capabilities, seccompProfile } = fieldsOf(securityContext);
        const { drop, add = [] } = fieldsOf(capabilities);
        assert.deepEqual([privileged, readOnlyRootFilesystem, drop], [false, true, ['ALL']], `${name}`);
        assert.deepEqual(add, name === 'done' ? [] : ['NET_ADMIN', 'SYS_ADMIN'], `${name}`);
        assert.deepEqual(seccompProfile, { type: 'RuntimeDefault' }, `${name}`);
      }
    }
  });

  it('sees the node’s processes only to adopt pods, and only as an agent', () => {
    const seen = (values: Readonly<Record<string, unknown>>): readonly unknown[] => {
      const pod = podOf(values);
      const [first = {}] = containersOf(pod);
      return [
        pod.hostPID ?? false,
        itemsOf(fieldsOf(fieldsOf(first.securityContext).capabilities).add).includes('SYS_PTRACE'),
      ];
    };
    assert.deepEqual(seen({}), [false, false]);
    assert.deepEqual(seen({ adoptRunningPods: true }), [true, true]);
    assert.deepEqual(seen({ adoptRunningPods: true, run: 'uninstall' }), [false, false]);
  });

  it('sees the node’s cgroups to serve Services alone, and only to read', () => {
    const seen = (values: Readonly<Record<string, unknown>>): readonly unknown[] => {
      const pod = podOf(values);
      const [first = {}] = containersOf(pod);
      const mounts = itemsOf(first.volumeMounts).map(fieldsOf);
      return itemsOf(pod.volumes)
        .map(fieldsOf)
        .filter(({ hostPath }) => fieldsOf(hostPath).path === '/sys/fs/cgroup')
        .flatMap((volume) => mounts.filter(({ name }) => name === volume.name))
        .map(({ mountPath, readOnly }) => [mountPath, readOnly]);
    };
    assert.deepEqual(seen({}), []);
    for (const run of ['agent', 'check']) {
      assert.deepEqual(seen({ services: 'moat', run }), [['/host/sys/fs/cgroup', true]], run);
    }
  });

  it('audits all, or nobody, where that is asked for', () => {
    const modes = (values: Readonly<Record<string, unknown>>): readonly unknown[] => {
      const [first = {}] = containersOf(podOf(values));
      return itemsOf(first.args).filter((arg) => String(arg).startsWith('--mode'));
    };
    assert.deepEqual(modes({}), []);
    assert.deepEqual(modes({ mode: 'audit' }), ['--mode=audit']);
    assert.deepEqual(modes({ mode: 'enforce' }), ['--mode=enforce']);
  });

  it('starts on every node, before other pods', () => {
    const { hostNetwork, priorityClassName, tolerations } = podOf();
    assert.deepEqual([hostNetwork, priorityClassName], [true, 'system-node-critical']);
    assert.deepEqual(tolerations, [{ operator: 'Exists' }]);
  });

  it('tells agents of an API server by the address that it is given', () => {
    const [agent = {}] = containersOf(podOf({ kubernetes: { host: 'fd00::1', port: 6443 } }));
    const environment = itemsOf(agent.env).map(fieldsOf);
    assert.deepEqual(
      ['HOST', 'PORT'].map((end) => environment.find(({ name }) => name === `KUBERNETES_SERVICE_${end}`)?.value),
      ['fd00::1', '6443'],
    );
  });

  it('names the image that make image makes', () => {
    assert.deepEqual(
      containersOf(podOf()).map(({ image }) => image),
      [AGENT_IMAGE],
    );
  });

  it('is what deploy/moat.yaml holds: make manifest', () => {
    assert.equal(readFileSync(join(ROOT, 'deploy/moat.yaml'), 'utf8'), manifest());
  });
});

describe('the image', () => {
  it('starts agents as a sandbox does', () => {
    const text = readFileSync(join(ROOT, 'deploy/image/Containerfile'), 'utf8');
    const started = JSON.parse(/^ENTRYPOINT (.*)$/m.exec(text)?.[1] ?? '') as readonly string[];
    assert.deepEqual(started.slice(1, -1), AGENT_FLAGS);
    // Code is ready to run as it is in the image.
    const { NODE_COMPILE_CACHE: _, ...environment } = AGENT_ENVIRONMENT;
    for (const [name, value] of Object.entries(environment)) assert.ok(text.includes(` ${name}=${value}`), name);
  });
});

// What is read of Kubernetes' messages: the fields that something here asks for. Numbers: generated.proto of k8s.io/api and k8s.io/apimachinery.
// A field that is added to a reader (world/*.ts) is added here, too: wire.test.ts holds the two together.
import type { Shape } from './protobuf.ts';

const LIST_META: Shape = {
  2: { name: 'resourceVersion', type: 'text' },
  3: { name: 'continue', type: 'text' },
};

/** A Status (meta/v1): what a server refuses, and why. */
const STATUS: Shape = {
  1: { name: 'metadata', type: 'message', shape: LIST_META },
  3: { name: 'message', type: 'text' },
  5: { name: 'details', type: 'message', shape: { 5: { name: 'retryAfterSeconds', type: 'whole' } } },
  6: { name: 'code', type: 'whole' },
};

const OWNER: Shape = {
  1: { name: 'kind', type: 'text' },
  3: { name: 'name', type: 'text' },
  6: { name: 'controller', type: 'flag' },
};

const META: Shape = {
  1: { name: 'name', type: 'text' },
  3: { name: 'namespace', type: 'text' },
  5: { name: 'uid', type: 'text' },
  6: { name: 'resourceVersion', type: 'text' },
  11: { name: 'labels', type: 'texts' },
  12: { name: 'annotations', type: 'texts' },
  13: { name: 'ownerReferences', type: 'messages', shape: OWNER },
};

const PORT: Shape = {
  1: { name: 'name', type: 'text' },
  2: { name: 'hostPort', type: 'whole' },
  3: { name: 'containerPort', type: 'whole' },
  4: { name: 'protocol', type: 'text' },
  5: { name: 'hostIP', type: 'text' },
};

const CONTAINER: Shape = {
  6: { name: 'ports', type: 'messages', shape: PORT },
  24: { name: 'restartPolicy', type: 'text' },
};

const POD_SPEC: Shape = {
  2: { name: 'containers', type: 'messages', shape: CONTAINER },
  10: { name: 'nodeName', type: 'text' },
  11: { name: 'hostNetwork', type: 'flag' },
  20: { name: 'initContainers', type: 'messages', shape: CONTAINER },
};

const POD_STATUS: Shape = {
  1: { name: 'phase', type: 'text' },
  5: { name: 'hostIP', type: 'text' },
  6: { name: 'podIP', type: 'text' },
  12: { name: 'podIPs', type: 'messages', shape: { 1: { name: 'ip', type: 'text' } } },
};

const POD: Shape = {
  1: { name: 'metadata', type: 'message', shape: META },
  2: { name: 'spec', type: 'message', shape: POD_SPEC },
  3: { name: 'status', type: 'message', shape: POD_STATUS },
};

/** By `apiVersion kind`. */
export const SHAPES: ReadonlyMap<string, Shape> = new Map([
  ['v1 Status', STATUS],
  ['v1 Pod', POD],
  ['v1 PodList', listOf(POD)],
]);

function listOf(shape: Shape): Shape {
  return {
    1: { name: 'metadata', type: 'message', shape: LIST_META },
    2: { name: 'items', type: 'messages', shape },
  };
}

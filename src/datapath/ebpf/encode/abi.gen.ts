// Generated from bpf/abi.h by tools/gen-abi.ts. Do not edit: offsets and sizes are bytes.

/** struct addr */
export const ADDR = {
  size: 20,
  w: 0,
  family: 16,
} as const;

/** struct prefix4_key */
export const PREFIX4_KEY = {
  size: 8,
  length: 0,
  w: 4,
} as const;

/** struct prefix6_key */
export const PREFIX6_KEY = {
  size: 20,
  length: 0,
  w: 4,
} as const;

/** struct class_key */
export const CLASS_KEY = {
  size: 8,
  layer: 0,
  identity: 4,
} as const;

/** struct tagged */
export const TAGGED = {
  size: 8,
  value: 0,
  tag: 4,
} as const;

/** struct endpoint */
export const ENDPOINT = {
  size: 80,
  live: 0,
  epoch: 8,
  adoptUntil: 16,
  self: 24,
  ifindex: 44,
  generation: 48,
  egressSet: 52,
  ingressSet: 56,
  flags: 60,
  mtu: 64,
  podMac: 68,
  hostMac: 74,
} as const;

/** struct arena_record */
export const ARENA_RECORD = {
  size: 16,
  start: 0,
  action: 4,
  rule: 8,
  order: 12,
} as const;

/** struct set_layer */
export const SET_LAYER = {
  size: 8,
  layer: 0,
  base: 4,
} as const;

/** struct set_slot */
export const SET_SLOT = {
  size: 40,
  count: 0,
  layers: 8,
} as const;

/** struct state */
export const STATE = {
  size: 96,
  epoch: 0,
  closed: 8,
  high: 16,
  generation: 24,
  abiVersion: 32,
  changes: 40,
  skew: 48,
  marked: 56,
  bypass: 64,
  self4: 72,
  self6First: 80,
  self6Last: 88,
} as const;

/** struct ct_key */
export const CT_KEY = {
  size: 40,
  family: 0,
  protocol: 1,
  sub: 2,
  port: 4,
  address: 8,
} as const;

/** struct ct_leg */
export const CT_LEG = {
  size: 16,
  epoch: 0,
  generation: 8,
  rule: 12,
} as const;

/** struct move */
export const MOVE = {
  size: 6,
  from: 0,
  into: 2,
  length: 4,
} as const;

/** struct ct_value */
export const CT_VALUE = {
  size: 160,
  head: 0,
  lastSeen: 8,
  next: 16,
  fin: 24,
  packets: 32,
  bytes: 48,
  leg: 64,
  verdict: 96,
  initiator: 98,
  flags: 99,
  tcp: 100,
  tag: 101,
  position: 104,
  holder: 108,
  place: 112,
  created: 116,
  original: 120,
  originalPort: 136,
  askerPort: 140,
  slot: 144,
  tail: 152,
} as const;

/** struct service_key */
export const SERVICE_KEY = {
  size: 24,
  address: 0,
  port: 20,
  protocol: 22,
  scope: 23,
} as const;

/** struct service */
export const SERVICE = {
  size: 16,
  places: 0,
  count: 4,
  affinity: 8,
  clients: 12,
} as const;

/** struct service_places */
export const SERVICE_PLACES = {
  size: 16,
  backend: 0,
} as const;

/** struct client_bound */
export const CLIENT_BOUND = {
  size: 16,
  w: 0,
} as const;

/** struct translation */
export const TRANSLATION = {
  size: 72,
  head: 0,
  address: 8,
  self: 24,
  port: 40,
  selfPort: 42,
  slot: 44,
  generation: 48,
  side: 52,
  hold: 56,
  tail: 64,
} as const;

/** struct backend */
export const BACKEND = {
  size: 32,
  live: 0,
  address: 8,
  port: 24,
  generation: 28,
} as const;

/** struct share */
export const SHARE = {
  size: 88,
  assured: 0,
  head: 8,
  tail: 16,
  budgets: 24,
} as const;

/** struct event */
export const EVENT = {
  size: 80,
  time: 0,
  source: 8,
  destination: 28,
  ifindex: 48,
  egressRule: 52,
  ingressRule: 56,
  count: 60,
  sourcePort: 64,
  destinationPort: 66,
  kind: 68,
  hook: 69,
  reason: 70,
  leg: 71,
  protocol: 72,
} as const;

/** struct counters */
export const COUNTERS = {
  size: 384,
  drops: 0,
  audited: 160,
  passed: 320,
  redirected: 336,
  routed: 344,
  delivered: 352,
  forwarded: 360,
  lost: 368,
  evicted: 376,
} as const;

/** enum abi_version */
export const ABI_VERSION = {
  CURRENT: 13,
} as const;

/** enum drop_reason */
export const DROP_REASON = {
  NONE: 0,
  POLICY: 1,
  PEER_UNKNOWN: 2,
  NO_ENDPOINT: 3,
  NO_IDENTITY: 4,
  TABLE_ERROR: 5,
  MALFORMED: 6,
  ETHERTYPE: 7,
  EXTENSION_HEADER: 8,
  V4_MAPPED: 9,
  SPOOFED_SOURCE: 10,
  SPOOFED_NEIGHBOUR: 11,
  MULTICAST: 12,
  FRAGMENT_UNKNOWN: 13,
  FRAGMENT_TINY: 14,
  MID_FLOW: 15,
  CONNTRACK_FULL: 16,
  ICMP_UNRELATED: 17,
  DENIED_EARLIER: 18,
  NO_BACKEND: 19,
  COUNT: 20,
} as const;

/** enum table_action */
export const TABLE_ACTION = {
  DENY: 0,
  ALLOW: 1,
  REJECT: 2,
  PASS: 3,
  UNDECIDED: 4,
} as const;

/** enum action_flag */
export const ACTION_FLAG = {
  OWN: 8,
} as const;

/** enum leg_verdict */
export const LEG_VERDICT = {
  NONE: 0,
  DENY: 1,
  ALLOW: 2,
  AUDIT: 3,
  ELSEWHERE: 4,
} as const;

/** enum leg_index */
export const LEG_INDEX = {
  EGRESS: 0,
  INGRESS: 1,
  COUNT: 2,
} as const;

/** enum hook */
export const HOOK = {
  FROM_POD: 0,
  TO_POD: 1,
  COUNT: 2,
  FROM_NODE: 2,
} as const;

/** enum event_kind */
export const EVENT_KIND = {
  NEW: 0,
  CLOSE: 1,
  DROP: 2,
  AUDIT: 3,
} as const;

/** enum tcp_stage */
export const TCP_STAGE = {
  STAGE_NONE: 0,
  SYN_SENT: 1,
  SYN_ACKED: 2,
  OPEN: 3,
  CLOSING: 4,
} as const;

/** enum entry_flag */
export const ENTRY_FLAG = {
  HOST: 1,
  TOMBSTONE: 2,
  SERVICE: 4,
  FIN_INITIATOR: 8,
  FIN_RESPONDER: 16,
  ASSURED: 32,
  DIRECT: 64,
  FROZEN: 128,
} as const;

/** enum endpoint_flag */
export const ENDPOINT_FLAG = {
  READY: 1,
  REDIRECT: 2,
  ADOPT: 4,
  BANK: 8,
  AUDIT_OWN: 16,
  AUDIT_ALL: 32,
  PLAIN: 64,
} as const;

/** enum uplink_flag */
export const UPLINK_FLAG = {
  IPV4: 1,
  IPV6: 2,
  BRIDGE: 4,
} as const;

/** enum node_owner */
export const NODE_OWNER = {
  OWN: 1,
  OTHER: 2,
} as const;

/** enum service_scope */
export const SERVICE_SCOPE = {
  INSIDE: 0,
  OUTSIDE: 1,
} as const;

/** enum clients_flag */
export const CLIENTS_FLAG = {
  NOT_NODE: 1073741824,
} as const;

/** enum queue */
export const QUEUE = {
  PART: 16,
} as const;

/** Knobs, in the object's read-only data. */
export const KNOBS = {
  timeoutTcpOpen: { offset: 0, size: 8 },
  timeoutTcpHalf: { offset: 8, size: 8 },
  timeoutTcpClosing: { offset: 16, size: 8 },
  timeoutUdp: { offset: 24, size: 8 },
  timeoutOther: { offset: 32, size: 8 },
  timeoutTombstone: { offset: 40, size: 8 },
  timeoutFragment: { offset: 48, size: 8 },
  timeoutLeft: { offset: 56, size: 8 },
  assuredAfter: { offset: 64, size: 8 },
  dropWindow: { offset: 72, size: 8 },
  dropRate: { offset: 80, size: 8 },
  flowRate: { offset: 88, size: 8 },
  refusalRate: { offset: 96, size: 8 },
  proxyMark: { offset: 104, size: 4 },
  proxyMarkMask: { offset: 108, size: 4 },
  assuredRoom: { offset: 112, size: 4 },
  strictKeys: { offset: 116, size: 4 },
  earlier: { offset: 120, size: 4 },
  earlierHead: { offset: 124, size: 4 },
  earlierKey: { offset: 128, size: 96 },
  earlierKeyBack: { offset: 224, size: 96 },
  earlierValue: { offset: 320, size: 96 },
} as const;

/** Knobs, in the object's read-only data. */
export const HOST_KNOBS = {
  hostNetns: { offset: 0, size: 8 },
} as const;

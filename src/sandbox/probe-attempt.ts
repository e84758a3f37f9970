// The asking side of a probe: one attempt to get a payload of our own back over one connection.
import { randomBytes } from 'node:crypto';
import * as sockets from '#kernel/sockets.ts';
import { ICMP, ICMPV6, SCTP, TCP } from '#net/protocol.ts';
import type { Flow } from '#policy/verdict.ts';
import { encodeEcho, encodeSctp } from './probe-packets.ts';
import type { RawChannels } from './probe-raw.ts';
import type { SocketLoop } from './socket-loop.ts';

/** What became of an attempt so far. `failed` names an errno: a refusal, or no way to send. */
export type Outcome =
  | { readonly kind: 'silent' }
  | { readonly kind: 'echoed' }
  | { readonly kind: 'failed'; readonly code: string };

/** One connection to try: where from, what, and who hears of it. */
export type Try = {
  readonly netns: string;
  readonly flow: Flow;
  readonly sourcePort: number;
  readonly report: (outcome: Outcome) => void;
};

const NONCE_SIZE = 16;
const buffer: Buffer = Buffer.alloc(2048);

/** What attempts share. */
export type Equipment = { readonly loop: SocketLoop; readonly raw: RawChannels };

/** Sends the first packet. Returns what ends the attempt and frees its socket. Throws where the port is taken. */
export function startAttempt(equipment: Equipment, attempt: Try): () => void {
  const nonce = randomBytes(NONCE_SIZE);
  switch (attempt.flow.protocol) {
    case TCP:
      return startStream(equipment.loop, attempt, nonce);
    case SCTP:
    case ICMP:
    case ICMPV6:
      return startRaw(equipment.raw, attempt, nonce);
    default:
      return startDatagram(equipment.loop, attempt, nonce);
  }
}

function startStream(loop: SocketLoop, attempt: Try, nonce: Buffer): () => void {
  const { flow, report } = attempt;
  const fd = openBound(loop, attempt, 'stream');
  sockets.resetOnClose(fd);
  let connected = false;
  const started = sockets.connectSocket(fd, flow.to, flow.port);
  if (started.kind === 'failed') report(started);
  const close = loop.add(fd, 'read-write', () => {
    const error = sockets.socketError(fd);
    if (error !== null) {
      close();
      return report({ kind: 'failed', code: error });
    }
    if (connected) return readEcho({ fd, nonce, report, close });
    connected = true;
    loop.change(fd, 'read');
    sockets.sendSocket(fd, nonce, null);
  });
  return close;
}

function startDatagram(loop: SocketLoop, attempt: Try, nonce: Buffer): () => void {
  const { flow, report } = attempt;
  const fd = openBound(loop, attempt, 'datagram');
  const started = sockets.connectSocket(fd, flow.to, flow.port);
  const sent = started.kind === 'failed' ? started : sockets.sendSocket(fd, nonce, null);
  if (sent.kind === 'failed') report(sent);
  const close = loop.add(fd, 'read', () => readEcho({ fd, nonce, report, close }));
  return close;
}

type Listening = {
  readonly fd: number;
  readonly nonce: Buffer;
  readonly report: (outcome: Outcome) => void;
  readonly close: () => void;
};

/** The echo is short: it arrives whole. Anything else on this connection is not our payload, so it is no answer. */
function readEcho({ fd, nonce, report, close }: Listening): void {
  const got = sockets.receiveSocket(fd, buffer);
  if (got.kind === 'would-block') return;
  if (got.kind === 'done' && nonce.equals(buffer.subarray(0, got.bytes))) report({ kind: 'echoed' });
  else if (got.kind === 'failed') report(got);
  else report({ kind: 'failed', code: got.bytes === 0 ? 'closed' : 'wrong payload' });
  close();
}

function openBound(loop: SocketLoop, attempt: Try, kind: 'stream' | 'datagram'): number {
  const { from } = attempt.flow;
  const fd = loop.inside(attempt.netns, () => sockets.openSocket(from.family, kind));
  try {
    sockets.bindSocket(fd, from, attempt.sourcePort);
  } catch (error) {
    sockets.closeSocket(fd);
    throw error;
  }
  return fd;
}

function startRaw(raw: RawChannels, attempt: Try, nonce: Buffer): () => void {
  const { flow, sourcePort, report } = attempt;
  const channel = raw.open({ netns: attempt.netns, address: flow.from }, flow.protocol);
  channel.expect(sourcePort, (answer) => {
    if (nonce.equals(answer)) report({ kind: 'echoed' });
  });
  const packet =
    flow.protocol === SCTP
      ? encodeSctp({
          kind: 'init',
          sourcePort,
          destinationPort: flow.port,
          // Never 0, which is not a valid tag.
          tag: (nonce.readUInt32BE(0) | 1) >>> 0,
          nonce,
        })
      : encodeEcho(flow.from.family, sourcePort, nonce);
  const sent = channel.send(flow.to, packet);
  if (sent.kind === 'failed') report(sent);
  return () => channel.forget(sourcePort);
}

// How far a TCP connection has come, by sequence numbers: who can't see a connection can neither finish its handshake
// nor end it, since it would have to guess 32 bits, as with the kernels at its ends (RFC 5961). What can't be believed
// is no reason to drop: those kernels judge it.
import type { Entry, TcpNumbers, Travel } from './conntrack.ts';
import type { TcpSegment } from './packet.ts';

/** A segment on its way. */
export type Step = {
  readonly segment: TcpSegment;
  readonly travel: Travel;
  /** Its sender is a pod of this node, or the node itself: nobody else can send it. */
  readonly believed: boolean;
  /** Its receiver is elsewhere, so that what was received from there is the sender's to say. */
  readonly outbound: boolean;
};

/** What the answer to a SYN may acknowledge beyond it: data that came along (RFC 7413). */
const FAST_OPEN = 0xffff;

/** The entry after a TCP packet. */
export function advance(entry: Entry, step: Step): Entry {
  if (entry.state === 'none' || entry.state === 'closing' || entry.numbers === null) return entry;
  if (step.segment.rst) return isObeyed(entry, entry.numbers, step) ? { ...entry, state: 'closing' } : entry;
  const shaken = shakeHands(forgetFins(entry, step), step);
  const followed = noteFin(followNumbers(shaken, step), step);
  return followed.finished.size === 2 ? { ...followed, state: 'closing' } : followed;
}

/** True for a reset that its receiver would obey. */
function isObeyed(entry: Entry, { next }: TcpNumbers, { segment, travel }: Step): boolean {
  if (travel === 'reply' && entry.state === 'half-open') {
    return segment.ack && isFrom(segment.acknowledged, next.request, FAST_OPEN);
  }
  return segment.sequence === next[travel];
}

/** Established needs both sides: a lone sender can't fill the table that never evicts. */
function shakeHands(entry: Entry, { segment, travel, believed }: Step): Entry {
  if (entry.numbers === null || !segment.ack) return entry;
  const { next } = entry.numbers;
  if (entry.state === 'half-open' && travel === 'reply') {
    // Of a responder that is believed, a SYN-ACK may be about a later SYN than the first.
    const answers = (segment.syn && believed) || isFrom(segment.acknowledged, next.request, FAST_OPEN);
    return answers ? { ...withNext(entry, { ...next, reply: segment.end }), state: 'answered' } : entry;
  }
  const completes = entry.state === 'answered' && travel === 'request' && !segment.syn;
  return completes && segment.acknowledged === next.reply ? { ...entry, state: 'established' } : entry;
}

/** Ports that are used again while their last connection still seems open. */
function forgetFins(entry: Entry, { segment, believed }: Step): Entry {
  return segment.syn && believed ? { ...entry, finished: new Set() } : entry;
}

/**
 * The next number that each end will send. Who is believed tells its own, and of an end that is elsewhere, what it has
 * received from there. What comes from elsewhere counts where it goes on from there exactly.
 */
function followNumbers(entry: Entry, { segment, travel, believed, outbound }: Step): Entry {
  if (entry.numbers === null) return entry;
  const { next } = entry.numbers;
  const other = otherWay(travel);
  const { syn, ack, sequence, acknowledged, end } = segment;
  if (!believed) {
    const goesOn = sequence === next[travel] || (syn && ack && acknowledged === next[other]);
    return goesOn ? withNext(entry, { ...next, [travel]: end }) : entry;
  }
  const own = syn || isAfter(end, next[travel]) ? end : next[travel];
  const tells = outbound && ack && (syn || isAfter(acknowledged, next[other]));
  return withNext(entry, { ...next, [travel]: own, [other]: tells ? acknowledged : next[other] });
}

/** A FIN counts once its receiver says that it has it. */
function noteFin(entry: Entry, { segment, travel }: Step): Entry {
  if (entry.numbers === null || !segment.ack) return entry;
  const other = otherWay(travel);
  const { next, fin } = entry.numbers;
  const isReceived = fin[other] !== null && fin[other] === segment.acknowledged;
  const finished = isReceived ? new Set([...entry.finished, other]) : entry.finished;
  const noted = segment.fin ? { ...fin, [travel]: segment.end === 0 ? null : segment.end } : fin;
  return { ...entry, finished, numbers: { next, fin: noted } };
}

function withNext(entry: Entry, next: TcpNumbers['next']): Entry {
  return entry.numbers === null ? entry : { ...entry, numbers: { ...entry.numbers, next } };
}

function otherWay(travel: Travel): Travel {
  return travel === 'request' ? 'reply' : 'request';
}

/** Sequence numbers go round: after means less than half the way. */
function isAfter(a: number, b: number): boolean {
  return ((a - b) | 0) > 0;
}

function isFrom(number: number, start: number, room: number): boolean {
  return (number - start) >>> 0 <= room;
}

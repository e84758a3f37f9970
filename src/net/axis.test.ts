// Protocols and the axis: every (protocol, port) has a position of its own, in order.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AXIS_END, axisPosition, axisRange, WHOLE_AXIS } from './axis.ts';
import { hasPorts, ICMP, ICMPV6, protocolName, protocolNumber, SCTP, TCP, UDP } from './protocol.ts';

test('positions are in the order of protocol, then port, and within the axis', () => {
  const positions = [
    axisPosition(0, 0),
    axisPosition(ICMP, 65535),
    axisPosition(TCP, 0),
    axisPosition(TCP, 65535),
    axisPosition(UDP, 0),
    axisPosition(SCTP, 80),
    axisPosition(255, 65535),
  ];
  assert.deepEqual(
    [...positions].sort((a, b) => a - b),
    positions,
  );
  assert.equal(new Set(positions).size, positions.length);
  assert.equal(positions.at(-1), AXIS_END - 1);
  assert.deepEqual(WHOLE_AXIS, { first: 0, last: AXIS_END - 1 });
});

test('a range of ports is a range of positions; without ports it is the whole protocol', () => {
  assert.deepEqual(axisRange(UDP, 10, 20), { first: axisPosition(UDP, 10), last: axisPosition(UDP, 20) });
  assert.deepEqual(axisRange(UDP), { first: axisPosition(UDP, 0), last: axisPosition(UDP + 1, 0) - 1 });
});

test('protocols have their names, in any case, and numbers where they have none', () => {
  for (const protocol of [TCP, UDP, SCTP, ICMP, ICMPV6]) {
    assert.equal(protocolNumber(protocolName(protocol)), protocol);
    assert.equal(protocolNumber(protocolName(protocol).toLowerCase()), protocol);
  }
  assert.equal(protocolName(47), '47');
  assert.equal(protocolNumber('constructor'), null);
  assert.deepEqual([TCP, UDP, SCTP, ICMP, ICMPV6, 47].map(hasPorts), [true, true, true, false, false, false]);
});

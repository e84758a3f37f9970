// Packets that probes make: known checksums, and a round trip through the decoder.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32c, decodeEcho, decodeSctp, encodeEcho, encodeSctp, internetChecksum } from './probe-packets.ts';

const nonce = Buffer.from('0123456789abcdef');

test('crc32c gives the check value of the standard (RFC 3720, B.4)', () => {
  assert.equal(crc32c(Buffer.from('123456789')), 0xe3069283);
  assert.equal(crc32c(Buffer.alloc(32)), 0x8a9136aa);
});

test('an INIT and its INIT-ACK keep ports, tag and nonce', () => {
  for (const kind of ['init', 'init-ack'] as const) {
    const packet = { kind, sourcePort: 20001, destinationPort: 80, tag: 0xdeadbeef, nonce };
    const decoded = decodeSctp(encodeSctp(packet));
    assert.deepEqual({ ...decoded, nonce: Buffer.from(decoded?.nonce ?? []) }, packet);
  }
});

test('an SCTP packet with one bit turned is refused', () => {
  const bytes = encodeSctp({ kind: 'init', sourcePort: 1, destinationPort: 2, tag: 3, nonce });
  bytes[bytes.length - 1] = (bytes[bytes.length - 1] ?? 0) ^ 1;
  assert.equal(decodeSctp(bytes), null);
});

test('an echo request has a checksum that sums to zero, and its nonce', () => {
  const bytes = encodeEcho(4, 77, nonce);
  assert.equal(internetChecksum(bytes), 0);
  assert.equal(decodeEcho(4, bytes)?.id, 77);
  assert.equal(decodeEcho(4, bytes)?.kind, 'request');
  assert.equal(decodeEcho(6, bytes), null);
});

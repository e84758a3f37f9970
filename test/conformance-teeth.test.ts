// The conformance suite finds what it is for: each fault, planted in a copy of the reference datapath, fails a case.
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { Factory } from '#datapath/conformance/harness.ts';
import { IPV4, IPV6, Rig } from '#datapath/conformance/rig.ts';
import { CASES, limitsOf } from '#datapath/conformance.ts';

const SOURCES = join(import.meta.dirname, '../src');
const folder = mkdtempSync(join(tmpdir(), 'moat-teeth-'));

after(() => rmSync(folder, { recursive: true }));

/** A sentence that is no longer obeyed, and how: in a file, this text becomes that. */
type Fault = readonly [sentence: string, file: string, from: string, to: string];

const FAULTS: readonly Fault[] = [
  // Services
  ['policy judges the backend', 'reference.ts', 'tuple: toBackend(tuple, sent.backend), meant', 'meant'],
  ['answers enter as the Service’s', 'reference.ts', "answers !== null && passage.hook === 'to-pod'", 'false'],
  [
    'answers are the backend’s until they enter',
    'reference.ts',
    "answers !== null && passage.hook === 'to-pod'",
    'answers !== null',
  ],
  [
    'packets go to the backend',
    'reference.ts',
    "const sentOn = withEnd(injection.frame, 'destination', sent.backend)",
    'const sentOn = injection.frame',
  ],
  ['a pod’s address is no Service', 'reference.ts', "hook === 'from-pod' && !this", "hook === 'from-pod' || this"],
  [
    'nobody serves: refused',
    'services.ts',
    "return spare === null ? { kind: 'drop', reason: 'no-backend' }",
    'return spare === null ? AS_SENT',
  ],
  ['a connection stays', 'services.ts', '!opens || this.#serves(tuple, known)', 'this.#serves(tuple, known)'],
  ['what begins does not', 'services.ts', '!opens || this.#serves(tuple, known)', 'true'],
  [
    'datagrams stay with who serves',
    'services.ts',
    'if (known !== null &&',
    'if (known !== null && segment !== null &&',
  ],
  [
    'a pod may be its own backend',
    'services.ts',
    'isToItself(onwards) && !(mayTurn && canTurn(onwards))',
    'isToItself(onwards)',
  ],
  ['not by one port for both', 'services.ts', 'return sourcePort !== destinationPort;', 'return true;'],
  ['nor by the stack', 'reference.ts', 'frame.fragment === null && frame.hopLimit > 1', 'true'],
  ['it hears somebody from elsewhere', 'reference.ts', "frame: withEnd(sentOn, 'source', elsewhere)", 'frame: sentOn'],
  ['and answers there', 'reference.ts', '&& isHairpin(tuple.destination)) return', '&& tuple.sourcePort === 0) return'],
  ['where nothing begins', 'reference.ts', '!isFlow || !this.#flows.isTurned(tuple, from.nowNs)', '!isFlow'],
  ['it may always ask itself', 'flows.ts', 'isToItself(initiator) ? ALLOWED : judge', 'judge'],
  ['nobody tells of it', 'reference.ts', 'if (isToItself(quoted)) return unrelated;', ''],
  ['flows to one backend stay apart', 'services.ts', "standing === 'none' || standing === 'this'", 'true'],
  ['who is no client is refused', 'services.ts', 'if (!isClient) return', 'if (false) return'],
  ['a family’s blocks are its own', 'services.ts', 'cidrContains(block, tuple.source)', 'true'],
  ['clients that change begin anew', 'services.ts', 'known?.clients === clients ? known.of : null', 'known?.of'],
  ['clients are kept', 'services.ts', 'if (affinitySeconds === undefined)', 'if (true)'],
  ['and not for ever', 'services.ts', 'nowNs - before.lastNs < BigInt(affinitySeconds) * SECOND', 'true'],
  ['as long as they come', 'services.ts', 'hash, lastNs: nowNs }', 'hash, lastNs: before?.lastNs ?? nowNs }'],
  ['each by itself', 'services.ts', 'const client = nameOf({ ...tuple, sourcePort: 0 });', "const client = '';"],
  ['with whom serves', 'services.ts', 'this.#serves(tuple, known) ? known : null', 'true ? known : null'],
  ['who is refused is told', 'reference.ts', "sent.reason === 'no-backend' ?", 'false ?'],
  ['what has options is not answered', 'refusal.ts', '!isPlain ||', ''],
  ['a backend that spoke first gives way', 'services.ts', "if (standing === 'spare')", 'if (false)'],
  ['but for who finds no other one', 'services.ts', 'spare ??= serving', 'return to(tuple, serving)'],
  ['and then the flow is its client’s', 'flows.ts', 'if (meant !== null && !', 'if (false && !'],
  ['what it asks itself is no answer', 'flows.ts', " && travelOf(entry, tuple) === 'request';", ';'],
  ['SCTP keeps its port', 'services.ts', 'tuple.protocol === SCTP &&', 'false &&'],
  ['a middle of nothing is no beginning', 'services.ts', 'return opens ? this.#choose', 'return true ? this.#choose'],
  ['no sum stays no sum', 'rewrite.ts', 'protocol === UDP && word(frame, transport + 6) !== 0', 'protocol === UDP'],
  ['later fragments have no ports', 'rewrite.ts', 'transport: isLater ? null :', 'transport:'],
  ['sums follow addresses', 'rewrite.ts', 'for (const sum of of)', 'for (const sum of of.slice(1))'],
  // Connections
  ['TCP opens by SYN alone', 'passage.ts', "isOpening(segment) ? 'opens' : 'belongs'", "'opens'"],
  ['a SYN on closing is new', 'flows.ts', "entry.state === 'closing' || entry.tombstone", 'entry.tombstone'],
  ['a SYN of the other side is judged its own way', 'flows.ts', "=== 'request') return", "!== 'x') return"],
  [
    'replies are judged in the initiator’s direction',
    'flows.ts',
    'Legs(entry.initiator, judgePort)',
    'Legs(passage.tuple, judgePort)',
  ],
  ['an echo reply opens nothing', 'passage.ts', "transport.reply ? 'belongs' : 'opens'", "'opens'"],
  [
    'requests under one id the other way are their own',
    'parse.ts',
    'sourcePort: id, destinationPort: ICMP_RESPONDER',
    'sourcePort: ICMP_RESPONDER, destinationPort: id',
  ],
  [
    'other ICMP has no replies',
    'parse.ts',
    'ICMP_ONE_WAY + tuple.policyPort, destinationPort: ICMP_RESPONDER',
    '0, destinationPort: 0',
  ],
  ['a reset needs its number', 'tcp.ts', 'return segment.sequence === next[travel];', 'return true;'],
  [
    'a refusal needs its number',
    'tcp.ts',
    'return segment.ack && isFrom(segment.acknowledged, next.request, FAST_OPEN);',
    'return true;',
  ],
  ['a handshake is finished by who saw its answer', 'tcp.ts', 'segment.acknowledged === next.reply ?', 'true ?'],
  [
    'a handshake is answered by who saw its SYN',
    'tcp.ts',
    '|| isFrom(segment.acknowledged, next.request, FAST_OPEN);\n    return answers',
    '|| true;\n    return answers',
  ],
  ['a pod answers the SYN that it likes', 'tcp.ts', '(segment.syn && believed) ||', ''],
  ['data in a SYN may be acknowledged', 'tcp.ts', 'const FAST_OPEN = 0xffff', 'const FAST_OPEN = 0'],
  [
    'strangers move numbers only where they go on exactly',
    'tcp.ts',
    '? withNext(entry, { ...next, [travel]: end }) : entry;',
    '? withNext(entry, { ...next, [travel]: end }) : withNext(entry, { ...next, [travel]: end });',
  ],
  [
    'what strangers send in order moves numbers',
    'tcp.ts',
    'const goesOn = sequence === next[travel] ||',
    'const goesOn =',
  ],
  ['strangers tell nobody else’s numbers', 'tcp.ts', 'if (!believed) {', 'if (!believed && !segment.ack) {'],
  ['pods tell what they received', 'tcp.ts', 'tells ? acknowledged : next[other]', 'next[other]'],
  ['pods tell what they sent', 'tcp.ts', 'syn || isAfter(end, next[travel]) ? end : next[travel]', 'next[travel]'],
  ['what is sent again moves nothing back', 'tcp.ts', 'syn || isAfter(end, next[travel]) ? end', 'true ? end'],
  ['numbers go round', 'tcp.ts', '((a - b) | 0) > 0', 'a > b'],
  [
    'a FIN counts when it is received',
    'tcp.ts',
    'fin[other] !== null && fin[other] === segment.acknowledged',
    'segment.fin',
  ],
  ['FINs count', 'tcp.ts', 'new Set([...entry.finished, other])', 'entry.finished'],
  ['ports that are used again forget FINs', 'tcp.ts', '{ ...entry, finished: new Set() } : entry', 'entry : entry'],
  [
    'the table of open connections refuses when full',
    'conntrack.ts',
    'if (!this.#hasRoom(held.holder, at.greed)) return false',
    '',
  ],
  ['a pod leaves room to others', 'conntrack.ts', 'entry.holder === holder).length', 'false).length'],
  ['a pod pushes out its own flows', 'conntrack.ts', '([, entry]) => entry.holder === holder', '() => true'],
  ['a stream of datagrams stays', 'conntrack.ts', 'held.sinceNs >= ASSURED_AFTER_NS', 'held.sinceNs < 0n'],
  [
    'a cut stream stays cut',
    'conntrack.ts',
    'if (assured !== undefined && stays)',
    'if (assured && stays && !entry.tombstone)',
  ],
  ['entries expire', 'conntrack.ts', 'nowNs - entry.lastSeenNs > timeoutOf(entry)', 'false'],
  [
    'both legs are judged where a packet leaves',
    'legs.ts',
    'destination === undefined ? []',
    'source !== undefined || destination === undefined ? []',
  ],
  [
    'a packet that arrives is judged',
    'reference.ts',
    'if (link === null || admitted',
    "if (injection.hook === 'to-pod') return PASS;\n    if (link === null || admitted",
  ],
  // Changes
  [
    'a cut flow leaves a tombstone',
    'flows.ts',
    '...legs, tombstone: true, lastSeenNs: passage.nowNs',
    'lastSeenNs: 0n',
  ],
  ['a cut TCP connection stays cut', 'flows.ts', 'entry.initiator.protocol === TCP || this', 'this'],
  [
    'a cut UDP flow is judged again',
    'flows.ts',
    'entry.initiator.protocol === TCP || this.#stillDenies(entry)',
    'true',
  ],
  [
    'the epoch is read before the tables',
    'flows.ts',
    'this.#options.beforeStore();',
    'this.#options.beforeStore();\n    entry = { ...entry, ingress: { ...entry.ingress, epoch: this.#epochs.now } };',
  ],
  ['sets have epochs', 'legs.ts', 'this.#sets.get(place.own[place.direction]),', ''],
  ['peers have epochs', 'legs.ts', 'this.#peers.get(formatAddress(place.peer)),', ''],
  ['an endpoint that moves has an epoch', 'legs.ts', 'this.#endpoints.get(formatAddress(place.own.address)),', ''],
  [
    'generations are compared',
    'flows.ts',
    '#isInherited(entry: Entry): boolean {',
    '#isInherited(entry: Entry): boolean {\n    if (entry) return false;',
  ],
  [
    'a new interface is a new owner',
    'reference.ts',
    'for (const address of this.#links.attach(link)) this.#epochs.replaced(address);',
    'this.#links.attach(link);',
  ],
  [
    'an old interface takes no moved address along',
    'links.ts',
    'if (link.interfaceIndex === interfaceIndex) this.#claims',
    'if (this.#links.get(interfaceIndex)?.mac[5] === link.mac[5]) this.#claims',
  ],
  // Policy
  ['the earlier rule decides', 'lookup.ts', 'some.order < base.order', 'some.order > base.order'],
  ['pass goes on', 'lookup.ts', "hit !== null && hit.action !== 'pass'", 'hit !== null'],
  ['intervals end', 'lookup.ts', 'position > interval.last', 'position > interval.last + 1'],
  ['the longest prefix counts', 'lookup.ts', 'prefix.cidr.length <= length ||', ''],
  ['an unknown peer is named so', 'legs.ts', "isUnknown ? 'peer-unknown' : 'policy'", "'policy'"],
  ['a pod to itself is not judged', 'reference.ts', 'source.pod === destination?.pod', "source.pod === 'x'"],
  ['a stolen address is not the pod', 'reference.ts', 'owner !== null && owner !== sender', 'false'],
  ['listener messages stay on the link', 'admission.ts', 'isZero(tuple.source) || isLinkLocal(tuple.source)', 'true'],
  ['the own node is not judged', 'reference.ts', 'isOwnNode(this.#plan, destination, tuple.source);', 'false;'],
  [
    'an address alone does not make the own node',
    'reference.ts',
    "injection.hook === 'to-pod' && injection.sender === 'own-node'",
    "injection.hook === 'to-pod'",
  ],
  ['entries of the own node are the node’s', 'flows.ts', 'asks && passage.ownNode !== entry.host', 'false'],
  [
    'no endpoint record is closed, to senders too',
    'reference.ts',
    'return this.#links.ownerOf(address) !== null &&',
    'return false &&',
  ],
  [
    'no endpoint record is closed, to its pod',
    'reference.ts',
    '.filter((address) => this.#plan.endpoints.has(formatAddress(address)))',
    '',
  ],
  // Packets
  ['v4-mapped addresses are dropped', 'ip.ts', 'isV4Mapped(source) || isV4Mapped(destination)', 'isV4Mapped(source)'],
  ['extension headers are walked', 'ip.ts', 'new Set([0, ROUTING, FRAGMENT, 60])', 'new Set([0, ROUTING, FRAGMENT])'],
  ['chains end', 'ip.ts', 'count === MAX_EXTENSION_HEADERS', 'count === 20'],
  ['routing headers lead nowhere', 'ip.ts', 'protocol === ROUTING && bytes[at + 3] !== 0', 'false'],
  ['source routes are refused', 'ip.ts', 'option === LOOSE_SOURCE_ROUTE || option === STRICT_SOURCE_ROUTE', 'false'],
  ['IPv4 options are skipped', 'ip.ts', 'bytes.subarray(headerLength, end)', 'bytes.subarray(20, end)'],
  ['a packet ends where its header says', 'ip.ts', 'headerLength > end || end > bytes.length', 'headerLength > end'],
  ['ports that are cut off are malformed', 'parse.ts', 'packet.payload.length < needed', 'packet.payload.length < 4'],
  ['tiny fragments are dropped', 'ip.ts', 'protocol === TCP && fragment?.offset === 1', 'false'],
  [
    'the first fragment speaks for the rest',
    'reference.ts',
    "outcome.verdict === 'pass' && fragment !== null",
    'false',
  ],
  ['a fragment belongs to its own datagram', 'fragments.ts', 'fragment.id}`', '1}`'],
  [
    'without its first a fragment needs one verdict for all ports',
    'lookup.ts',
    "return { kind: 'mixed' };",
    "return { kind: 'open' };",
  ],
  // The parser, check by check
  ['an IPv4 packet says so', 'ip.ts', 'first >> 4 !== 4 ||', ''],
  ['an IPv4 header has 20 bytes', 'ip.ts', 'headerLength < 20 ||', ''],
  ['an IPv4 header ends before its packet', 'ip.ts', 'headerLength > end ||', ''],
  ['an IPv6 packet says so', 'ip.ts', 'first >> 4 !== 6 ||', ''],
  ['an IPv6 packet ends before its frame', 'ip.ts', '6 || end > bytes.length', '6'],
  ['the source may be IPv4-mapped as well', 'ip.ts', 'isV4Mapped(source) ||', ''],
  ['options end the list', 'ip.ts', 'if (option === 0) return true;', ''],
  [
    'an option has a length',
    'ip.ts',
    'if (option !== NO_OPERATION && length < 2) return false;',
    'if (length === 0) return true;',
  ],
  ['mobility, HIP and Shim6 hide nothing', 'ip.ts', 'new Set([135, 139, 140])', 'new Set([139, 140])'],
  ['an extension header has 8 bytes', 'ip.ts', 'next === null || at + 8 > bytes.length', 'next === null'],
  ['an extension header ends before its packet', 'ip.ts', "if (at + size > bytes.length) return 'malformed';", ''],
  [
    'nothing stands between a first fragment’s header and its ports',
    'ip.ts',
    ' || fragment !== null) return',
    ') return',
  ],
  ['tiny fragments of IPv6 are dropped', 'ip.ts', "if (fragment?.offset === 1) return 'fragment-tiny';", ''],
  [
    'whatever they say of their protocol',
    'ip.ts',
    'if (fragment?.offset === 1) return',
    'if (fragment?.offset === 1 && next === TCP) return',
  ],
  [
    'of a later fragment nothing more is read',
    'ip.ts',
    'fragment !== null && fragment.offset > 0) return',
    'fragment === undefined) return',
  ],
  ['an atomic fragment is whole', 'ip.ts', 'return whole ? null : {', 'return {'],
  [
    'a quoted packet ends where the quote does',
    'ip.ts',
    "strictness === 'quoted' ? quotedEnd(total, total, bytes) : total",
    'total',
  ],
  ['and one that says 0 of its length, too', 'ip.ts', 'said === 0 ? bytes.length : ', ''],
  ['ARP is of Ethernet and IPv4', 'parse.ts', 'hardware !== 0x0001_0800 ||', ''],
  ['ARP has 6-byte and 4-byte addresses', 'parse.ts', 'sizes !== 0x0604 ||', ''],
  [
    'tags are no packets',
    'parse.ts',
    "return { kind: 'drop', reason: 'ethertype', tuple: null };",
    "return parseIp(parseIpv4(payload.subarray(4), 'whole'), macs);",
  ],
  ['a TCP header has 20 bytes', 'parse.ts', 'headerLength < 20 ||', ''],
  ['a TCP header ends before its segment', 'parse.ts', 'headerLength > packet.payload.length', 'false'],
  ['SYN with FIN is a probe', 'parse.ts', '(segment.fin || segment.rst)', 'segment.rst'],
  ['SYN with RST is a probe', 'parse.ts', '(segment.fin || segment.rst)', 'segment.fin'],
  ['a datagram has a header', 'parse.ts', 'stated !== 0 && stated < 8', 'false'],
  ['datagrams of the kernel’s own offloads say 0', 'parse.ts', 'stated !== 0 && stated < 8', 'stated < 8'],
  ['an ICMP message has 8 bytes', 'parse.ts', 'payload.length < ICMP_BYTES', 'payload.length < 4'],
  [
    'ICMP is IPv4’s, ICMPv6 IPv6’s',
    'parse.ts',
    'packet.protocol === (packet.source.family === 4 ? ICMP : ICMPV6)',
    '[ICMP, ICMPV6].includes(packet.protocol)',
  ],
  ['an error quotes ports', 'parse.ts', 'if (packet.payload.length < 8) return null;', ''],
  ['an error quotes no later fragment', 'parse.ts', '|| (result.packet.fragment?.offset ?? 0) > 0', ''],
  ['a neighbour’s message is whole', 'parse.ts', "if (payload.length < fixed) return 'malformed';", ''],
  [
    'listener messages come from the link',
    'parse.ts',
    'honest: packet.hopLimit === 1 && fragment === null',
    'honest: true',
  ],
  [
    'nobody is at a loopback address',
    'admission.ts',
    'isNowhere(source) || isGroup(source) || isNowhere(destination)',
    'false',
  ],
  ['no group sends', 'admission.ts', '|| isGroup(source) ||', '||'],
  [
    'a pod sends nothing to loopback addresses',
    'admission.ts',
    'if (isNowhere(destination) && !isHairpin(destination))',
    'if (false)',
  ],
  ['nobody redirects', 'reference.ts', 'redirects && !from.ownNode', 'false'],
  ['ARP has no room', 'admission.ts', 'frame.length > MIN_FRAME', 'false'],
  ['NDP has no room', 'admission.ts', 'length !== 8 || (option', '(option'],
  ['NDP has known options', 'admission.ts', 'option !== NONCE && !namesOwn', 'MAC_OPTIONS.has(option) && !namesOwn'],
  // Errors
  [
    'errors need a live connection',
    'reference.ts',
    'if (entry === null) return from.ownNode',
    'if (entry === null) return true',
  ],
  ['errors enter as what their client sent', 'reference.ts', 'if (entry.meant === null) return PASS', 'return PASS'],
  ['errors come from the Service', 'reference.ts', 'entry.meant, isBackends)', 'entry.meant, false)'],
  ['and routers’ from routers', 'reference.ts', 'entry.meant, isBackends)', 'entry.meant, true)'],
  ['and enter no backend so', 'reference.ts', "&& travelOf(entry, inner) === 'request'", ''],
  ['backends hear of their own answers', 'reference.ts', 'return this.#mayTranslate(asked) ?', 'return false ?'],
  ['errors in parts are not translated', 'reference.ts', 'if (fragment !== null) return unrelated;', ''],
  ['the sum of an error follows', 'rewrite.ts', 'if (at !== message + 2)', 'if (false)'],
  ['and is over ICMPv6’s addresses', 'rewrite.ts', 'v6 ? [ETHERNET + 8, ETHERNET + 40, message, stop] : ', ''],
  ['padding has no sum', 'rewrite.ts', 'frame.subarray(0, stop)', 'frame'],
  [
    'errors pass audit only with what they speak of',
    'flows.ts',
    "return judgePort(this.#plan, place, entry.initiator).reason === 'none'",
    'return place.own.audit !== undefined',
  ],
  [
    'errors about a cut connection are dropped',
    'flows.ts',
    'entry.tombstone || this.#isInherited(entry)) return false;',
    'entry) return true;',
  ],
  [
    'errors come to who sent',
    'reference.ts',
    'formatAddress(inner.source) !== formatAddress(outer.destination)',
    'false',
  ],
  ['errors are not forged', 'reference.ts', "from.hook === 'from-pod' && isForged", 'false'],
  // Spoofing
  [
    'the source address is the pod’s',
    'admission.ts',
    'includes(place.addresses, transport.tuple.source) ? JUDGED',
    'true ? JUDGED',
  ],
  [
    'the source MAC is the pod’s',
    'admission.ts',
    'const ownMac = sameBytes(macs.source, place.mac)',
    'const ownMac = true',
  ],
  [
    'ARP claims the own address',
    'admission.ts',
    'includes(place.admitted, isProbe ? frame.target : frame.sender)',
    'true',
  ],
  ['ARP names the own MAC', 'admission.ts', '!sameBytes(frame.senderMac, place.mac) ||', ''],
  [
    'NDP claims the own address',
    'admission.ts',
    'message.target === null || !isOwn(place, message.target)',
    'message.target === null',
  ],
  ['NDP names the own MAC', 'admission.ts', '&& sameBytes(options.subarray(at + 2, at + 8), place.mac)', ''],
  ['NDP comes from the link', 'parse.ts', 'packet.hopLimit === 255 && packet.fragment === null', 'true'],
  ['NDP stays on the link', 'admission.ts', '|| !staysOnLink(place, destination)', ''],
  ['routers alone advertise', 'admission.ts', 'new Set([130, 134, 137])', 'new Set([130])'],
  ['multicast is dropped', 'admission.ts', 'toGroup || isGroup(transport.tuple.destination)', 'false'],
  [
    'no group is reached',
    'admission.ts',
    "if (isGroup(transport.tuple.destination)) return drop('multicast');\n  const",
    'const',
  ],
  ['what is for another does not reach a pod', 'admission.ts', "? JUDGED : drop('no-endpoint')", '? JUDGED : JUDGED'],
];

/** The factory of the reference with a fault in it, from a copy of its files. */
function planted(number: number, [sentence, file, from, to]: Fault): Factory {
  const copy = join(folder, String(number));
  cpSync(join(SOURCES, 'datapath/reference'), copy, { recursive: true, filter: (path) => !path.endsWith('.test.ts') });
  cpSync(join(SOURCES, 'compile/lookup.ts'), join(copy, 'lookup.ts'));
  symlinkSync(SOURCES, join(copy, 'src'));
  const imports = { '#compile/lookup.ts': './lookup.ts', '#*': './src/*' };
  writeFileSync(join(copy, 'package.json'), JSON.stringify({ type: 'module', imports }));
  const path = join(copy, file);
  const text = readFileSync(path, 'utf8').replace("'./plan.ts'", "'#compile/plan.ts'");
  assert.equal(text.split(from).length, 2, `${sentence}: ${file} must hold the text once: ${from}`);
  writeFileSync(path, text.replace(from, to));
  const module: unknown = createRequire(join(copy, 'package.json'))('./harness.ts');
  return (module as { readonly referenceHarness: Factory }).referenceHarness;
}

/** The first case that fails; null where all pass. */
function firstFailure(factory: Factory): string | null {
  for (const one of CASES) {
    for (const names of [IPV4, IPV6]) {
      if (one.family !== undefined && one.family !== names.family) continue;
      try {
        one.run(new Rig(factory(limitsOf(one))), names);
      } catch {
        return `${one.name} (IPv${names.family})`;
      }
    }
  }
  return null;
}

test('without a fault a copy passes', () => {
  assert.equal(
    firstFailure(planted(FAULTS.length, ['nothing', 'harness.ts', 'let interfaces', 'let interfaces'])),
    null,
  );
});

for (const [number, fault] of FAULTS.entries()) {
  test(`the suite sees when this is not so: ${fault[0]}`, (context) => {
    const failed = firstFailure(planted(number, fault));
    assert.ok(failed);
    context.diagnostic(failed);
  });
}

// Attaches and takes away without end, as an agent does it, and says what it does: for tests that kill it. Arguments: the
// folder.
import { writeSync } from 'node:fs';
import { formatAddress } from '#net/address.ts';
import { parseCidr } from '#net/cidr.ts';
import { Attachments, attachmentId } from '#network/attachments.ts';
import { allocate } from '#network/ipam.ts';

const MOST = 20;

const attachments = new Attachments(process.argv[2] ?? '');
const block = parseCidr('10.1.0.0/27')?.cidr;
if (block === undefined) throw new Error('no block');
for (const { containerId, ifname, isDone } of attachments.inOrder) {
  if (!isDone) attachments.remove(attachmentId(containerId, ifname));
}

/** At once: what is said was done before. */
function say(text: string): void {
  writeSync(1, `${text}\n`);
}

for (let round = 0; ; round++) {
  const id = attachmentId(`c${process.pid}x${round}`, 'eth0');
  const held = new Set(attachments.inOrder.flatMap(({ addresses }) => addresses));
  const addresses = allocate([block], { held, last: [] })?.map(formatAddress);
  if (addresses === undefined) throw new Error('an address leaked');
  const one = {
    ...{ containerId: `c${process.pid}x${round}`, ifname: 'eth0', netns: '/run/netns/x', addresses, sequence: round },
    ...{ pod: { namespace: 'shop', name: 'web', uid: '' }, mac: '', hostInterface: '', isDone: false },
  };
  say(`adding ${id}`);
  attachments.put(one);
  attachments.put({ ...one, isDone: true });
  say(`added ${id} ${addresses[0]}`);
  const [oldest] = attachments.inOrder;
  if (attachments.all.size < MOST || oldest === undefined) continue;
  const gone = attachmentId(oldest.containerId, oldest.ifname);
  say(`removing ${gone}`);
  attachments.remove(gone);
  say(`removed ${gone}`);
}

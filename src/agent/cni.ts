// The CNI's side of an agent: pods are attached, checked and taken away as a container runtime asks for it. Attachments
// are on disk before anything is made, and until all of it is gone, so no kill leaks an address or a link.
import { join } from 'node:path';
import { SystemCallError } from '#kernel/sockets.ts';
import { type Address, type AddressKey, formatAddress, parseAddress } from '#net/address.ts';
import { type Attachment, type AttachmentId, Attachments, attachmentId } from '#network/attachments.ts';
import type { FoundLink } from '#network/found-links.ts';
import { allocate } from '#network/ipam.ts';
import { linkNames, type PodLink, PodLinks } from '#network/pod-links.ts';
import { missingForwarding } from '#network/sysctl.ts';
import { type Pod, podKey } from '#policy/world.ts';
import { Adoption, type AdoptionHost } from './adoption.ts';
import {
  type Add,
  type Check,
  CniError,
  type Del,
  type Gc,
  type Previous,
  readCall,
  readConfig,
  type Status,
  versionOf,
} from './cni-call.ts';
import { attachRequest, checkLink, checkNetns, findWhole, hostIndex } from './cni-links.ts';
import { addResult, DONE, errorResult, passOn } from './cni-result.ts';
import { CniSpool } from './cni-spool.ts';
import { LocalPods } from './local-pods.ts';
import type { AttachRequest, CniCall, CniReply } from './protocol.ts';

/** What the agent does for it. */
export type CniHost = AdoptionHost & {
  /** Why no pod can be attached now; null where one can. */
  readonly obstacle: () => string | null;
  /** The network that this agent keeps: `mtu`, what a new pod's link may carry, in bytes. Null where others do. */
  readonly network: { readonly mtu: number | null } | null;
  /** Policy is neither judged nor changed now: pods that are attached have limited connectivity. */
  readonly isClosed: () => boolean;
  /** Hooks are on the interface, and the policy of its addresses is in force; throws where that is not so in time. */
  readonly attach: (request: AttachRequest) => Promise<void>;
  readonly detach: (interfaceIndex: number) => void;
  /** The interface is nobody's any more, and still there: its hooks stay, and let nothing through until it goes. */
  readonly seal: (interfaceIndex: number) => void;
};

const BELIEVED =
  "other nodes' pods have the addresses that their statuses tell: whoever may write pods/status can claim another pod's; with --routes, only those in the pod's node's podCIDRs count";

export class Cni {
  readonly pods: LocalPods;
  readonly adoption: Adoption;
  readonly #host: CniHost;
  readonly #attachments: Attachments;
  readonly #spool: CniSpool;
  readonly #links: PodLinks = new PodLinks();
  /** Calls about one attachment wait for each other. */
  readonly #turns: Map<AttachmentId, Promise<unknown>> = new Map();
  readonly #last: Map<4 | 6, Address> = new Map();
  /** Interfaces that are being removed: their hooks go with them. */
  readonly #going: Set<number> = new Set();
  #sequence = 0;

  /** `folder`: where attachments and the spool are. Reads what an earlier process left. */
  constructor(node: string, folder: string, host: CniHost) {
    // Whoever keeps the network gives all pods of the cluster their addresses.
    this.pods = new LocalPods({ node, strict: host.network !== null, tell: host.tell });
    if (host.network === null) host.tell(BELIEVED);
    this.#host = host;
    this.adoption = new Adoption(this.pods, host, {
      take: (pod, link, untilMs) => this.#take(pod, link, untilMs),
      drop: (attachment) => this.#remove(attachment),
    });
    this.#attachments = new Attachments(join(folder, 'attachments'));
    this.#spool = new CniSpool(join(folder, 'spool'), host.tell);
    for (const attachment of this.#attachments.inOrder) {
      this.#remember(attachment);
      if (attachment.isDone) this.pods.claim(idOf(attachment), attachment);
    }
  }

  /**
   * What an earlier process left is made whole: an attachment that it did not finish, or that is over, is undone; where that fails, its
   * addresses stay taken, and the next process tries again. Returns the others whose links are there.
   */
  async adopt(): Promise<readonly AttachRequest[]> {
    for (const attachment of this.#attachments.inOrder) {
      const { isDone, foreignIndex } = attachment;
      // Whoever made the link has taken it away, and nobody need ask again for the end of the pod.
      const isOver = foreignIndex !== undefined && hostIndex(attachment) === 0;
      if (!isDone || isOver) await this.#undo(attachment);
    }
    const whole = this.#attachments.inOrder.filter(({ isDone }) => isDone);
    return whole.flatMap((attachment) => {
      const index = hostIndex(attachment);
      return index === 0 ? [] : [attachRequest(attachment, index)];
    });
  }

  /** Others' link becomes an attachment, as if it had been asked for. */
  async #take(pod: Pod, link: FoundLink, adoptUntilMs: number): Promise<Attachment> {
    const addresses = pod.addresses.map(formatAddress);
    for (const [id, other] of this.#attachments.all) {
      if (hostIndex(other) !== link.hostIndex) continue;
      throw new CniError('link', `its interface ${link.hostInterface} is that of ${podKeyOf(other)} (${id})`);
    }
    for (const address of addresses) await this.#free(address);
    const { namespace, name, uid = '' } = pod;
    const { hostInterface, hostIndex: foreignIndex, ifname, mac } = link;
    const attachment: Attachment = {
      ...{ containerId: uid, ifname, netns: '', pod: { namespace, name, uid }, addresses, mac, hostInterface },
      ...{ foreignIndex, adoptUntilMs, sequence: this.#sequence + 1, isDone: true },
    };
    this.#keep(attachment);
    this.#remember(attachment);
    return attachment;
  }

  async #undo(attachment: Attachment): Promise<void> {
    const id = idOf(attachment);
    try {
      await this.#inTurn(id, () => this.#remove(attachment));
    } catch (error) {
      this.#host.tell(`${id}, which was never answered or is over, can't be undone: ${messageOf(error)}`);
    }
  }

  /** Answers a call; never throws. */
  async answer(raw: CniCall): Promise<CniReply> {
    let version: ReturnType<typeof versionOf> = null;
    try {
      const config = readConfig(raw.config);
      version = versionOf(config);
      const call = readCall(raw, config);
      switch (call.command) {
        case 'ADD':
          await this.workOffSpool();
          return await this.#inTurn(call.id, async () => {
            if (call.previous !== null) return passOn(call.version, await this.#chain(call, call.previous));
            return addResult(call.version, await this.#add(call), linkNames(call.id).hostMac);
          });
        case 'DEL':
          await this.#inTurn(call.id, () => this.#del(call));
          return DONE;
        case 'CHECK':
          await this.#inTurn(call.id, () => this.#check(call));
          return DONE;
        case 'GC':
          await this.workOffSpool();
          await this.#collect(call);
          return DONE;
        case 'STATUS':
          this.#checkStatus(call);
          return DONE;
      }
    } catch (error) {
      return errorResult(version, error);
    }
  }

  /** Does the DELs that came while no agent was there. */
  async workOffSpool(): Promise<void> {
    await this.#spool.workOff((call) => this.answer(call));
  }

  async #add(call: Add): Promise<Attachment> {
    const { id, containerId, ifname, netns, pod } = this.#admit(call, this.#obstacle());
    const addresses = this.#allocate();
    const { hostInterface, mac, hostMac } = linkNames(id);
    const attachment: Attachment = {
      ...{ containerId, ifname, netns, pod, mac, hostInterface, isDone: false },
      ...{ addresses: addresses.map(formatAddress), sequence: this.#sequence + 1 },
    };
    this.#keep(attachment);
    this.#remember(attachment);
    try {
      await this.#connect(attachment, {
        ...{ hostInterface, netns, ifname, mac, hostMac, addresses },
        mtu: this.#host.network?.mtu ?? null,
      });
      const done = { ...attachment, isDone: true };
      this.#keep(done);
      return done;
    } catch (error) {
      await this.#remove(attachment);
      throw error instanceof SystemCallError ? new CniError('link', `the link of ${id} can't be made`, error) : error;
    }
  }

  /** A link that is there, and up: its pod runs nothing yet. Returns the result to be passed on. */
  async #chain(call: Add, { result, addresses }: Previous): Promise<Previous['result']> {
    const { containerId, ifname, netns, pod } = this.#admit(call, this.#host.obstacle());
    const { hostInterface, hostIndex: index, mac } = findWhole(netns, ifname, addresses);
    for (const address of addresses) await this.#free(address);
    const attachment: Attachment = {
      ...{ containerId, ifname, netns, pod, mac, hostInterface, foreignIndex: index, isDone: false },
      ...{ addresses, sequence: this.#sequence + 1 },
    };
    this.#keep(attachment);
    this.#remember(attachment);
    try {
      await this.#attach(attachment, index);
      this.#keep({ ...attachment, isDone: true });
      return result;
    } catch (error) {
      await this.#remove(attachment);
      throw error;
    }
  }

  /** Whoever had the address before, and whose link is gone without a DEL, has it no more. */
  async #free(address: AddressKey): Promise<void> {
    for (const [id, other] of this.#attachments.all) {
      if (!other.addresses.includes(address)) continue;
      if (hostIndex(other) !== 0) {
        throw new CniError('link', `${address} is the address of ${id}, whose link ${other.hostInterface} is there`);
      }
      await this.#remove(other);
    }
  }

  /** What every ADD needs. */
  #admit(call: Add, obstacle: string | null): Add {
    if (obstacle !== null) throw new CniError('tryLater', obstacle);
    checkNetns(call.netns);
    if (this.#attachments.all.has(call.id)) throw new CniError('link', `${call.id} is attached already`);
    return call;
  }

  /** Nothing passes before the pod's policy is in force. */
  async #connect(attachment: Attachment, link: PodLink): Promise<void> {
    const index = this.#links.create(link);
    await this.#attach(attachment, index);
    this.#links.raise(index, link, this.pods.nodeAddresses);
  }

  async #attach(attachment: Attachment, index: number): Promise<void> {
    const id = idOf(attachment);
    this.#host.change(this.pods.claim(id, attachment));
    try {
      await this.#host.attach(attachRequest(attachment, index));
    } catch (error) {
      const { namespace, name, uid } = attachment.pod;
      const why = this.pods.isCurrent(id)
        ? 'its policy is not in force'
        : `the cluster's ${namespace}/${name} is not on this node, not known yet, or not the one with uid '${uid}'`;
      throw new CniError('tryLater', `${namespace}/${name} can't be attached: ${why}`, error);
    }
  }

  #allocate(): readonly Address[] {
    const held = new Set([...this.#attachments.all.values()].flatMap(({ addresses }) => addresses));
    const addresses = allocate(this.pods.blocks, { held, last: [...this.#last.values()] });
    if (addresses === null) throw new CniError('tryLater', `no address is left: ${held.size} are in use`);
    return addresses;
  }

  /** Writes down how far it has come, before anything of it is made and once all is. Throws CniError where it can't. */
  #keep(attachment: Attachment): void {
    try {
      this.#attachments.put(attachment);
    } catch (error) {
      throw new CniError('disk', `there is no writing down that ${idOf(attachment)} is attached`, error);
    }
  }

  #remember({ addresses, sequence }: Attachment): void {
    this.#sequence = Math.max(this.#sequence, sequence);
    for (const address of addresses.map(parseAddress)) if (address !== null) this.#last.set(address.family, address);
  }

  async #del({ id }: Pick<Del, 'id'>): Promise<void> {
    const attachment = this.#attachments.all.get(id);
    if (attachment === undefined) return;
    try {
      await this.#remove(attachment);
    } catch (error) {
      throw new CniError('link', `${id} can't be removed`, error);
    }
  }

  /** In this order, an address is nobody else's before nothing of it is left; whatever fails, another DEL begins again. */
  async #remove(attachment: Attachment): Promise<void> {
    const id = idOf(attachment);
    const { foreignIndex, hostInterface } = attachment;
    const index = hostIndex(attachment);
    if (foreignIndex === undefined) {
      this.#going.add(index);
      await this.#links.remove(hostInterface).finally(() => this.#going.delete(index));
      if (index !== 0) this.#host.detach(index);
    } else if (index === 0) this.#host.detach(foreignIndex);
    else this.#host.seal(foreignIndex);
    this.#host.change(this.pods.release(id));
    this.#attachments.remove(id);
  }

  /** The link went without a call: whoever made it took it away, or its pod's namespace ended. True where that is nobody's fault. */
  isOver(interfaceIndex: number): boolean {
    if (this.#going.has(interfaceIndex)) return true;
    const over = this.#attachments.inOrder.find(({ foreignIndex }) => foreignIndex === interfaceIndex);
    if (over === undefined) return false;
    this.#host.detach(interfaceIndex);
    this.#host.change(this.pods.release(idOf(over)));
    this.#attachments.remove(idOf(over));
    return true;
  }

  async #check({ id, netns, expected }: Check): Promise<void> {
    const attachment = this.#attachments.all.get(id);
    if (attachment === undefined) throw new CniError('unknownContainer', `${id} is not attached`);
    const { addresses } = attachment;
    await checkLink(id, attachment, { netns, expected });
    const pod = podKey(attachment.pod.namespace, attachment.pod.name);
    const lawless = addresses.map(parseAddress).filter((each) => each !== null && !this.#host.enforces(pod, each));
    if (lawless.length > 0) throw new CniError('check', `no policy is in force for ${id}: it is closed`);
  }

  /** Goes on where one can't be removed, and tells of it in the end. */
  async #collect({ valid }: Gc): Promise<void> {
    const failures: unknown[] = [];
    // No runtime knows the names of those that were adopted.
    const asked = [...this.#attachments.all].filter(([, { adoptUntilMs }]) => adoptUntilMs === undefined);
    const stale = asked.map(([id]) => id).filter((id) => !valid.has(id));
    for (const id of stale) await this.#inTurn(id, () => this.#del({ id })).catch((error) => failures.push(error));
    if (failures.length > 0) {
      throw new CniError('link', `${failures.length} of ${stale.length} attachments can't be removed`, failures[0]);
    }
  }

  #checkStatus({ chained }: Status): void {
    if (this.#host.isClosed())
      throw new CniError('limited', 'policy is not in force on this node: it denies everything new');
    const obstacle = chained ? this.#host.obstacle() : this.#obstacle();
    if (obstacle !== null) throw new CniError('cannotAdd', obstacle);
    // Whoever gives the addresses answers for them.
    if (chained) return;
    try {
      this.#allocate();
    } catch (error) {
      throw error instanceof CniError ? new CniError('cannotAdd', error.message) : error;
    }
  }

  #obstacle(): string | null {
    const known = this.#host.obstacle();
    if (known !== null) return known;
    const families = [...new Set(this.pods.blocks.map(({ address }) => address.family))];
    if (families.length === 0) return 'this node has no podCIDR, or is not known yet';
    const off = missingForwarding(families);
    return off.length === 0 ? null : `this node does not route for its pods: set ${off.join(' and ')} to 1`;
  }

  async #inTurn<T>(id: AttachmentId, work: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(id) ?? Promise.resolve();
    // Whatever became of the call before: that was its caller's to hear.
    const turn = before.then(work, work);
    this.#turns.set(id, turn);
    try {
      return await turn;
    } finally {
      if (this.#turns.get(id) === turn) this.#turns.delete(id);
    }
  }
}

function podKeyOf({ pod }: Attachment): string {
  return podKey(pod.namespace, pod.name);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function idOf({ containerId, ifname }: Attachment): AttachmentId {
  return attachmentId(containerId, ifname);
}

// Pods that run and were attached without Moat get hooks on the links that are found to be theirs.
import { setTimeout as pause } from 'node:timers/promises';
import type { Address } from '#net/address.ts';
import { type Attachment, attachmentId } from '#network/attachments.ts';
import type { FoundLink } from '#network/found-links.ts';
import type { Pod, PodKey, WorldEvent } from '#policy/world.ts';
import { monotonicMs } from './attached-links.ts';
import { attachRequest, hostIndex } from './cni-links.ts';
import { readAddress } from './endpoint-link.ts';
import type { LocalPods, Unattached } from './local-pods.ts';
import type { AttachRequest } from './protocol.ts';
import { type FindRunning, findRunning, type Unfit } from './running-links.ts';

/** What was not found is looked for again after this long: that reads something of every process. */
const PAUSE_MS = 30_000;

/** Policy of pods that run is waited for so long. */
const POLICY_MS = 5000;
/** Connections of pods that ran before may rest for so long, and are let in all the same. */
const ADOPT_MS = 3_600_000;

/** What becomes of attachments of links that others made. */
export type Attaching = {
  /** Makes an attachment of a pod's link; throws where its addresses, or the link, are somebody else's. */
  readonly take: (pod: Pod, link: FoundLink, adoptUntilMs: number) => Promise<Attachment>;
  /** Takes it back: the link has no hooks. */
  readonly drop: (attachment: Attachment) => Promise<void>;
};

/** What the agent does for it. */
export type AdoptionHost = {
  /** Gives a pod that runs hooks. Returns why it can't have them; null where it has. */
  readonly adopt: (request: AttachRequest) => string | null;
  readonly enforces: (pod: PodKey, address: Address) => boolean;
  /** Local pods have become others. */
  readonly change: (events: readonly WorldEvent[]) => void;
  readonly tell: (problem: string) => void;
};

/** When a pod was looked for, and why it has no hooks though it runs; null: nothing of it is there. */
type Missed = { readonly why: string | null; readonly atMs: number };

export class Adoption {
  readonly #pods: LocalPods;
  readonly #host: AdoptionHost;
  readonly #attaching: Attaching;
  readonly #find: FindRunning;
  #missed: Map<PodKey, Missed> = new Map();
  #isLooking = false;
  /** What is found later was attached while this agent was there to be asked. */
  #isLater = false;

  constructor(pods: LocalPods, host: AdoptionHost, attaching: Attaching, find: FindRunning = findRunning) {
    this.#pods = pods;
    this.#host = host;
    this.#attaching = attaching;
    this.#find = find;
  }

  /** Pods that run without policy, a line each. */
  get unreached(): readonly string[] {
    return [...this.#missed].flatMap(([key, { why }]) => (why === null ? [] : [strayText(key, why)]));
  }

  /** Pods that run, and that somebody attached before this agent was there or without asking it, get hooks. Says which can't. */
  async look(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    try {
      await this.#look(this.#pods.unattached, monotonicMs());
    } finally {
      this.#isLooking = false;
      this.#isLater = true;
    }
  }

  async #look(unattached: readonly Unattached[], nowMs: number): Promise<void> {
    const keys = new Set(unattached.map(({ pod }) => pod.key));
    for (const key of this.#missed.keys()) if (!keys.has(key)) this.#missed.delete(key);
    // Of one that had an attachment another sandbox may be there any moment.
    const isDue = ({ pod, over }: Unattached): boolean =>
      over !== null || nowMs - (this.#missed.get(pod.key)?.atMs ?? -PAUSE_MS) >= PAUSE_MS;
    const due = unattached.filter(isDue);
    const found = due.length === 0 ? null : this.#find(due.map(({ pod }) => pod));
    const adopted: (readonly [Pod, Attachment])[] = [];
    for (const { pod, over } of due) {
      const result = await this.#take(pod, found?.get(pod), over, nowMs);
      if (result !== null && typeof result !== 'string') adopted.push([pod, result]);
      else this.#miss(pod, result, nowMs);
    }
    if (adopted.length === 0) return;
    const claims = adopted.map(([, each]) => this.#pods.claim(attachmentId(each.containerId, each.ifname), each));
    this.#host.change(claims.flat());
    await this.#inForce(adopted.map(([, each]) => each));
    for (const [pod, attachment] of adopted) await this.#hook(pod, attachment, nowMs);
  }

  /** The attachment; text: why there can't be one; null: nothing of the pod is there, and nothing need be. */
  async #take(
    pod: Pod,
    link: FoundLink | Unfit | undefined,
    over: Unattached['over'],
    nowMs: number,
  ): Promise<Attachment | string | null> {
    if (link === undefined) return null;
    if ('why' in link) return over !== null && !link.runs ? null : link.why;
    // The link of before, which is about to go: its hooks let nothing through.
    if (over !== null && link.hostIndex === over.interfaceIndex) return null;
    try {
      return await this.#attaching.take(pod, link, nowMs + ADOPT_MS);
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }

  async #hook(pod: Pod, attachment: Attachment, nowMs: number): Promise<void> {
    const why = this.#host.adopt(attachRequest(attachment, hostIndex(attachment)));
    if (why !== null) {
      await this.#attaching.drop(attachment);
      this.#miss(pod, why, nowMs);
      return;
    }
    this.#missed.delete(pod.key);
    if (this.#isLater) this.#host.tell(pastText(pod.key));
  }

  #miss({ key }: Pod, why: string | null, atMs: number): void {
    if (why !== null && this.#missed.get(key)?.why !== why) this.#host.tell(strayText(key, why));
    this.#missed.set(key, { why, atMs });
  }

  /** With hooks and without its policy a pod is closed: what runs goes on until that is known, for a while. */
  async #inForce(adopted: readonly Attachment[]): Promise<void> {
    const requests = adopted.map((each) => attachRequest(each, hostIndex(each)));
    const isThere = ({ pod, addresses }: AttachRequest): boolean =>
      addresses.every((text) => this.#host.enforces(pod, readAddress(text)));
    for (const limit = monotonicMs() + POLICY_MS; !requests.every(isThere) && monotonicMs() < limit; ) await pause(5);
  }
}

function pastText(key: PodKey): string {
  const why = "does the runtime's network configuration still name moat-cni?";
  return `${key} was attached without asking Moat, and has its policy only now: ${why}`;
}

function strayText(key: PodKey, why: string): string {
  return `${key} runs without policy: ${why}`;
}

// Who holds which addresses on this node, on disk: one file for each attachment, named by container and interface. The
// folder lies in /run, for it lives as long as what it tells of: a boot ends every network namespace, and every pod's
// claim to its addresses. So kills are all that it has to outlive, and a file that is renamed into place does.
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { strangeFolder } from '#kernel/own-folder.ts';
import type { AddressKey } from '#net/address.ts';

/** What names an attachment, for runtimes and here: `CONTAINER@INTERFACE`. */
export type AttachmentId = string & { readonly __brand: 'AttachmentId' };

/** Neither has the sign between them: see `isName` in agent/cni-call.ts. */
export function attachmentId(containerId: string, ifname: string): AttachmentId {
  return `${containerId}@${ifname}` as AttachmentId;
}

export type Attachment = {
  readonly containerId: string;
  readonly ifname: string;
  /** File of the pod's namespace. */
  readonly netns: string;
  /** As the runtime named it; `uid` is '' where it did not say. */
  readonly pod: { readonly namespace: string; readonly name: string; readonly uid: string };
  readonly addresses: readonly AddressKey[];
  readonly mac: string;
  /** The node's end of the link. */
  readonly hostInterface: string;
  /** Grows with every attachment of the node: of two of one pod, the greater is the later. */
  readonly sequence: number;
  /** Of a link that somebody else made, and takes away: index of its end on the node. Absent: the link is Moat's own. */
  readonly foreignIndex?: number;
  /**
   * Of a pod that ran before anybody asked for it to be attached: no runtime knows the attachment, which ends with its link. Until
   * then (monotonic clock, milliseconds) connections that are older than its hooks are let in, if policy allows them.
   */
  readonly adoptUntilMs?: number;
  /** The runtime has been, or is about to be, told that it succeeded. One that never got so far is undone. */
  readonly isDone: boolean;
};

/** The attachments of a node; one process at a time may have them open. */
export class Attachments {
  readonly #folder: string;
  readonly #all: Map<AttachmentId, Attachment> = new Map();

  /** Reads what an earlier process left. Throws where the folder is open to others, or holds what can't be read. */
  constructor(folder: string) {
    this.#folder = folder;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const strange = strangeFolder(folder, 0o077);
    if (strange !== null) throw new Error(`${strange}: remove it, and start again`);
    for (const file of readdirSync(folder)) this.#load(file);
  }

  get all(): ReadonlyMap<AttachmentId, Attachment> {
    return this.#all;
  }

  /** Oldest first. */
  get inOrder(): readonly Attachment[] {
    return [...this.#all.values()].sort((a, b) => a.sequence - b.sequence);
  }

  /** Throws where there is no room for it on disk: what was there before stays then. */
  put(attachment: Attachment): void {
    const id = attachmentId(attachment.containerId, attachment.ifname);
    const aside = join(this.#folder, `.${id}`);
    try {
      writeFileSync(aside, JSON.stringify(attachment), { mode: 0o600 });
      renameSync(aside, join(this.#folder, `${id}.json`));
    } catch (error) {
      rmSync(aside, { force: true });
      throw error;
    }
    this.#all.set(id, attachment);
  }

  remove(id: AttachmentId): void {
    rmSync(join(this.#folder, `${id}.json`), { force: true });
    this.#all.delete(id);
  }

  #load(file: string): void {
    const path = join(this.#folder, file);
    if (file.startsWith('.')) {
      // Not renamed into place: its process ended first.
      rmSync(path);
      return;
    }
    try {
      const attachment = JSON.parse(readFileSync(path, 'utf8')) as Attachment;
      this.#all.set(attachmentId(attachment.containerId, attachment.ifname), attachment);
    } catch (cause) {
      // Whose address it holds is not known, so none may be given out.
      throw new Error(`${path} can't be read: find out whose it is, and remove it`, { cause });
    }
  }
}

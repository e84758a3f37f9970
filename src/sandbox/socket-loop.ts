// Many sockets of many namespaces in one loop: each has one handler, called when the socket is ready.
import { closeSocket, inNetns, openNetns, Poller } from '#kernel/sockets.ts';
import { netnsPath } from './names.ts';

/** Owns sockets and handles on namespaces; `close` frees whatever is left. */
export class SocketLoop {
  readonly #poller: Poller = new Poller();
  readonly #handlers: Map<number, () => void> = new Map();
  readonly #netns: Map<string, number> = new Map();
  #closed = false;

  /** Opens something inside a namespace, by name. `work` must not wait. */
  inside<T>(netns: string, work: () => T): T {
    let handle = this.#netns.get(netns);
    if (handle === undefined) {
      handle = openNetns(netnsPath(netns));
      this.#netns.set(netns, handle);
    }
    return inNetns(handle, work);
  }

  /**
   * From now on the loop owns this socket. Returns what closes it; done twice, that does nothing: the number may be
   * another socket's by then.
   */
  add(fd: number, interest: 'read' | 'read-write', ready: () => void): () => void {
    this.#poller.add(fd, interest);
    this.#handlers.set(fd, ready);
    return () => {
      if (this.#handlers.get(fd) !== ready) return;
      this.#handlers.delete(fd);
      closeSocket(fd);
    };
  }

  change(fd: number, interest: 'read' | 'read-write'): void {
    this.#poller.change(fd, interest);
  }

  /** Handles what is ready, waiting up to `timeoutMs` for it. */
  async turn(timeoutMs: number): Promise<void> {
    for (const fd of await this.#poller.wait(timeoutMs)) this.#handlers.get(fd)?.();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const fd of this.#handlers.keys()) closeSocket(fd);
    this.#handlers.clear();
    for (const handle of this.#netns.values()) closeSocket(handle);
    this.#poller.close();
  }
}

// Selectors, peers and ports that many policies have in common: of each, one object is kept. A million rules take a third
// of the room.
import { atomKey, namespacesKey } from '#identity/atoms.ts';
import { remember } from '#identity/collect.ts';
import { selectorKey } from '#identity/labels.ts';
import type { NamespaceSelector, Peer, Peers, Policy, Port, Ports, Rule, Source } from '#policy/model.ts';
import type { LabelSelector } from '#policy/selector.ts';

export class Interner {
  readonly #namespaces = new Map<string, NamespaceSelector>();
  readonly #pods = new Map<string, LabelSelector>();
  readonly #peers = new Map<string, Peer>();
  readonly #ports = new Map<string, Ports>();

  /** A policy that says the same, and shares what it can with those before it. */
  policy(policy: Policy): Policy {
    const rules = (list: readonly Rule[]): Rule[] => list.map((rule) => this.#rule(rule, policy.source));
    return { ...this.subject(policy), egress: rules(policy.egress), ingress: rules(policy.ingress) };
  }

  /** The same of whom it selects alone. */
  subject(policy: Policy): Policy {
    return { ...policy, subject: this.#selectors(policy.subject) };
  }

  /** Forgets them: who has them keeps them, and what comes later shares nothing with those. */
  clear(): void {
    this.#namespaces.clear();
    this.#pods.clear();
    this.#peers.clear();
    this.#ports.clear();
  }

  #rule({ id, action, peers, ports, source }: Rule, of: Source): Rule {
    return { id, action, peers: this.#peersOf(peers), ports: this.#portsOf(ports), source: sharedSource(source, of) };
  }

  #peersOf(peers: Peers): Peers {
    if (peers.kind === 'any') return peers;
    return { kind: 'these', peers: peers.peers.map((peer) => this.#peer(peer)) };
  }

  #peer(peer: Peer): Peer {
    return remember(this.#peers, peerKey(peer), () => {
      return peer.kind === 'pods' ? { kind: 'pods', ...this.#selectors(peer) } : peer;
    });
  }

  #selectors({ namespaces, pods }: Policy['subject']): Policy['subject'] {
    return {
      namespaces: remember(this.#namespaces, namespacesKey(namespaces), () => namespaces),
      pods: remember(this.#pods, selectorKey(pods), () => pods),
    };
  }

  #portsOf(ports: Ports): Ports {
    if (ports.kind === 'any') return ports;
    return remember(this.#ports, ports.ports.map(portKey).join(), () => ports);
  }
}

/** A rule's place differs from its policy's in little. */
function sharedSource(source: Source, { dialect, kind, namespace, name, file }: Source): Source {
  const isOfPolicy = source.dialect === dialect && source.kind === kind && source.file === file;
  if (!isOfPolicy || source.namespace !== namespace || source.name !== name) return source;
  return { dialect, kind, namespace, name, path: source.path, file, line: source.line };
}

/** Text that is equal for peers that mean the same, and for no others. */
function peerKey(peer: Peer): string {
  return peer.kind === 'pods'
    ? atomKey(peer)
    : atomKey({ kind: 'addresses', includes: [peer.cidr], excepts: peer.except });
}

/** Text that is equal for equal ports, in a list too. */
function portKey(port: Port): string {
  if (port.kind === 'range') return `${port.protocol} ${port.first}-${port.last}`;
  return `${port.protocol} ${port.name.length}:${port.name}`;
}

// Options that say where to listen.
import { InvalidArgumentError, Option } from 'commander';
import type { ListenAddress } from '#agent/process-options.ts';

/** `--x HOST:PORT`, or `off`. */
export function addressOption(flag: string, summary: string, fallback: string): Option {
  const option = new Option(`${flag} <host:port>`, `${summary}, or "off"`);
  return option.argParser(parseListen).default(parseListen(fallback), fallback);
}

/** `127.0.0.1:9797`, `[::1]:9797`, `:9797` for every address of the node; null for `off`. */
export function parseListen(text: string): ListenAddress | null {
  if (text === 'off') return null;
  const [, bracketed, plain, digits] = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9.-]*)):(\d{1,5})$/i.exec(text) ?? [];
  const port = Number(digits);
  if (!Number.isInteger(port) || port > 65535) {
    throw new InvalidArgumentError('Write an address and a port, as in 127.0.0.1:9797 or [::1]:9797, or "off".');
  }
  return { host: bracketed ?? (plain === undefined || plain === '' ? '::' : plain), port };
}

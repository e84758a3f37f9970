// What a runtime is told: results and errors in the shape of the version that it asked for.
import { formatAddress } from '#net/address.ts';
import type { Attachment } from '#network/attachments.ts';
import { GATEWAY } from '#network/pod-routes.ts';
import type { Fields } from '#policy/fields.ts';
import { CniError, VERSIONS, type Version } from './cni-call.ts';
import type { CniReply } from './protocol.ts';

/** Code of what no call is to blame for, as other plugins have it. */
const INTERNAL = 999;

/** Nothing on the standard output. */
export const DONE: CniReply = { exit: 0, output: null };

/** The result of ADD. Before 1.0.0, each address names its family. `hostMac`: of the node's end. */
export function addResult(version: Version, attachment: Attachment, hostMac: string): CniReply {
  const { hostInterface, ifname, mac, netns, addresses } = attachment;
  const families = addresses.map((address) => (address.includes(':') ? 6 : 4));
  const isOld = version === '0.3.1' || version === '0.4.0';
  const ips = addresses.map((address, index) => {
    const family = families[index] ?? 4;
    const ip = { address: `${address}/${family === 4 ? 32 : 128}`, gateway: gateway(family), interface: 1 };
    return isOld ? { version: String(family), ...ip } : ip;
  });
  const routes = families.map((family) => ({ dst: family === 4 ? '0.0.0.0/0' : '::/0', gw: gateway(family) }));
  const interfaces = [
    { name: hostInterface, mac: hostMac },
    { name: ifname, mac, sandbox: netns },
  ];
  return { exit: 0, output: { cniVersion: version, interfaces, ips, routes, dns: {} } };
}

/** What the plugins before this one had made, as it came: runtimes convert it to the version of the call. */
export function passOn(version: Version, result: Fields): CniReply {
  return { exit: 0, output: { ...result, cniVersion: version } };
}

function gateway(family: 4 | 6): string {
  return formatAddress(GATEWAY[family]);
}

/** An error, in the version of the call; where that is not known, in the latest. */
export function errorResult(version: Version | null, error: unknown): CniReply {
  const known = error instanceof CniError ? error : null;
  const msg = error instanceof Error ? error.message : String(error);
  const details = known === null || known.details === null ? {} : { details: known.details };
  return {
    exit: 1,
    output: { cniVersion: version ?? VERSIONS[VERSIONS.length - 1], code: known?.code ?? INTERNAL, msg, ...details },
  };
}

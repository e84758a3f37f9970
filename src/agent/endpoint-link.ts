// An endpoint's link as the datapath has it, from the text that a request carries. Throws for what is no address.
import type { EndpointLink } from '#datapath/port.ts';
import { type Address, parseAddress } from '#net/address.ts';
import { show } from '#policy/fields.ts';
import type { AttachRequest } from './protocol.ts';

export function readLink(request: AttachRequest): EndpointLink {
  const mac = Uint8Array.from(request.mac.split(':'), (byte) => Number.parseInt(byte, 16));
  return { interfaceIndex: request.interfaceIndex, mac, addresses: request.addresses.map(readAddress) };
}

export function readAddress(text: string): Address {
  const address = parseAddress(text);
  if (address === null) throw new Error(`${show(text)} is not an address`);
  return address;
}

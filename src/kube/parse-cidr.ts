// SPDX-License-Identifier: Apache-2.0
//
// Blocks of addresses as the API server takes them. Pure.
import { AddressError, hostLength, parseAddress } from "../net/address.ts";
import { maskedPrefix, type Prefix } from "../net/prefix.ts";
import { show, strictText, Unusable } from "./strict-fields.ts";

/**
 * "10.1.2.3/8" is 10.0.0.0/8: the API server takes bits behind the length, and means the block they are in.
 * @throws Unusable, for leading zeros and IPv4 addresses in IPv6's clothes as well, which one reads so and another otherwise
 */
export function parseCidr(raw: unknown, at: string): Prefix {
  const text = strictText(raw, at);
  const unusable = new Unusable(`${at} is ${show(text)}, no block like 10.0.0.0/8`);
  const [, host, digits] = /^([0-9a-fA-F:.]{1,45})\/(0|[1-9]\d{0,2})$/.exec(text) ?? [];
  if (host === undefined || (host.includes(":") && host.includes("."))) throw unusable;
  let address: Uint8Array;
  try {
    address = parseAddress(host);
  } catch (error) {
    if (error instanceof AddressError) throw unusable;
    throw error;
  }
  const length = Number(digits);
  if (length > hostLength(address.length === 4 ? 4 : 6)) throw unusable;
  return maskedPrefix(address, length);
}

// SPDX-License-Identifier: Apache-2.0
//
// The addresses that stand for this node's subnets, on lo and marked as ours: desired, there, and the difference.
import { formatAddress, hostLength } from "../net/address.ts";
import { ROUTE_PROTOCOL } from "../net/names.ts";
import { addAddress, deleteAddress, type InterfaceAddress } from "../netlink/address.ts";
import type { Request } from "../netlink/message.ts";

/** In every network namespace. */
export const LOOPBACK = { index: 1, name: "lo" } as const;

/**
 * The requests that leave exactly these of ours on lo. One that somebody else has put there serves as well, and stays. Pure.
 * @param there all addresses of the namespace
 */
export function changesOf(wanted: readonly Uint8Array[], there: readonly InterfaceAddress[]): Request[] {
  const { index, name } = LOOPBACK;
  const own = there.filter((one) => one.index === index);
  const has = new Set(own.map(({ address }) => formatAddress(address)));
  const wants = new Set(wanted.map(formatAddress));
  const stale = own.filter(
    ({ address, protocol }) => protocol === ROUTE_PROTOCOL && !wants.has(formatAddress(address)),
  );
  const missing = wanted.filter((address) => !has.has(formatAddress(address)));
  return [
    ...missing.map((address) => {
      return addAddress(index, name, address, hostLength(address.length === 4 ? 4 : 6), ROUTE_PROTOCOL);
    }),
    ...stale.map(({ address, length }) => deleteAddress(index, name, address, length)),
  ];
}

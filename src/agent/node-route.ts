// SPDX-License-Identifier: Apache-2.0
import type { NodeRoute } from "../gen/flatnet/ipam/v1/ipam.ts";
import { formatAddress } from "../net/address.ts";
import { formatPrefix } from "../net/prefix.ts";
import type { SubnetWay } from "../routes/reconciler.ts";

/** A way as the API tells it. */
export function toNodeRoute({ node, prefix, gateway, state, link = "", why = "" }: SubnetWay): NodeRoute {
  const nextHop = gateway === undefined ? "" : formatAddress(gateway);
  return { node, subnet: formatPrefix(prefix), nextHop, state, link, reason: why };
}

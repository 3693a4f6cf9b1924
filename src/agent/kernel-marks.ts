// SPDX-License-Identifier: Apache-2.0
//
// What the kernel says of the node's attachments by flatnet's marks: host links by their group and name, host routes by their
// protocol.
import type { KernelMark } from "../ipam/recovered.ts";
import { formatAddress } from "../net/address.ts";
import { LINK_GROUP, LINK_PREFIX } from "../net/names.ts";
import type { Link } from "../netlink/link.ts";
import type { Route } from "../netlink/route.ts";
import type { RouteKernel } from "../routes/kernel.ts";

/** @throws NetlinkError */
export async function readKernelMarks(kernel: RouteKernel): Promise<KernelMark[]> {
  return toKernelMarks(await kernel.links(), await kernel.routes());
}

/** Pure. A link without routes is one too: it has no addresses. */
export function toKernelMarks(links: readonly Link[], routes: readonly Route[]): KernelMark[] {
  const byLink = Map.groupBy(routes.filter(isHostRoute), ({ oif }) => oif);
  return links
    .filter(({ group, name }) => group === LINK_GROUP && name.startsWith(LINK_PREFIX))
    .map(({ index, name, alias }) => {
      const own = byLink.get(index) ?? [];
      const addresses = ([4, 6] as const).flatMap((family) => {
        const first = own.find((route) => route.family === family);
        return first === undefined ? [] : [formatAddress(first.destination)];
      });
      return { hostIfname: name, alias: alias ?? "", addresses };
    });
}

/** To one address, and straight to the link. */
function isHostRoute({ kind, gateway, destination, length }: Route): boolean {
  return kind === "unicast" && gateway === undefined && length === destination.length * 8;
}

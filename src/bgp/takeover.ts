// SPDX-License-Identifier: Apache-2.0
//
// Two makers of routes, and never a moment without one: which static routes to peers there still are in BGP mode. None is
// made, and one that is there from before stays until BIRD has a route to the same subnet. So a node that changes its mode
// loses nobody, and neither does one whose peers are still in the other mode. The two can be there at once, because they
// have different metrics (BIRD_METRIC).
import { formatAddress } from "../net/address.ts";
import { formatPrefix, type Prefix } from "../net/prefix.ts";
import type { Route } from "../netlink/route.ts";

/** rtnetlink protocol number of the routes that BIRD makes (RTPROT_BIRD of include/uapi/linux/rtnetlink.h). */
export const BIRD_PROTOCOL = 12;

/** The subnets that the kernel has a route by way of another node to. */
export function subnetsOf(routes: readonly Route[]): Set<string> {
  const away = routes.filter(({ kind, gateway }) => kind === "unicast" && gateway !== undefined);
  return new Set(away.map(({ destination, length }) => `${formatAddress(destination)}/${length}`));
}

interface HasSubnets {
  readonly name: string;
  readonly podCIDRs: readonly Prefix[];
}

/** Narrows nodes to the subnets that need a static route; the names and the node's own entry stay. */
export class Takeover<N extends HasSubnets> {
  readonly #self: string;
  #waiting: ReadonlySet<string>;
  #narrowed = new WeakMap<N, N>();

  /** @param there subnets of our routes to peers that are in the kernel at the start */
  constructor(self: string, there: ReadonlySet<string>) {
    this.#self = self;
    this.#waiting = there;
  }

  /** Whether some static route waits for BIRD's. */
  get isWaiting(): boolean {
    return this.#waiting.size > 0;
  }

  /** @param birds subnets that BIRD has routes to now */
  taken(birds: ReadonlySet<string>): void {
    const rest = new Set([...this.#waiting].filter((subnet) => !birds.has(subnet)));
    if (rest.size !== this.#waiting.size) this.#narrowed = new WeakMap();
    this.#waiting = rest;
  }

  /** A node that has not changed is the same object as before. */
  narrow(nodes: readonly N[]): N[] {
    return nodes.map((node) => {
      if (node.name === this.#self) return node;
      const narrowed = this.#narrowed.get(node) ?? {
        ...node,
        podCIDRs: node.podCIDRs.filter((prefix) => this.#waiting.has(formatPrefix(prefix))),
      };
      this.#narrowed.set(node, narrowed);
      return narrowed;
    });
  }
}

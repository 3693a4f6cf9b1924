// SPDX-License-Identifier: Apache-2.0
import { Egress } from "../egress/egress.ts";
import type { EgressRules } from "../egress/ruleset.ts";
import { hostPrefix, type Prefix } from "../net/prefix.ts";
import type { Netlink } from "../netlink/event-loop.ts";
import type { Node } from "../routes/source.ts";
import type { Log } from "./log.ts";

/** What the configuration says of connections that leave the cluster. */
export interface EgressConf {
  readonly masquerade: boolean;
  /** Destinations outside the cluster that can route to pods. */
  readonly exceptCIDRs: readonly Prefix[];
}

/** Keeps the masquerading of what leaves the cluster in step with the nodes that are in it, pass by pass. */
export class EgressKeeper {
  readonly #egress: Egress;
  readonly #own: readonly Prefix[];
  readonly #exceptCIDRs: readonly Prefix[];
  readonly #log: Log;

  private constructor(egress: Egress, own: readonly Prefix[], exceptCIDRs: readonly Prefix[], log: Log) {
    this.#egress = egress;
    this.#own = own;
    this.#exceptCIDRs = exceptCIDRs;
    this.#log = log;
  }

  /**
   * Puts the rules in the kernel, or takes those away that an earlier configuration had.
   * @param own this node's subnets
   * @throws NetlinkError
   */
  static async start(
    netlink: Netlink,
    { masquerade, exceptCIDRs }: EgressConf,
    own: readonly Prefix[],
    nodes: readonly Node[],
    log: Log,
  ): Promise<EgressKeeper | undefined> {
    if (!masquerade) {
      await Egress.remove(netlink);
      return undefined;
    }
    const egress = await Egress.start(netlink, rulesOf(own, nodes, exceptCIDRs));
    return new EgressKeeper(egress, own, exceptCIDRs, log);
  }

  /** @throws NetlinkError: the next pass tries again */
  async pass(nodes: readonly Node[]): Promise<void> {
    const remade = await this.#egress.update(rulesOf(this.#own, nodes, this.#exceptCIDRs));
    if (remade)
      this.#log.warn("the rules for what leaves the cluster had been changed by somebody else and were made anew");
  }
}

function rulesOf(own: readonly Prefix[], nodes: readonly Node[], exceptCIDRs: readonly Prefix[]): EgressRules {
  const cluster = nodes.flatMap(({ addresses, podCIDRs }) => [...podCIDRs, ...addresses.map(hostPrefix)]);
  return { pods: own, inside: [...own, ...cluster, ...exceptCIDRs] };
}

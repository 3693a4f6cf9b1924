// SPDX-License-Identifier: Apache-2.0
//
// What of flatnet is in the kernel of this node, known by its marks alone, and how it goes. Nothing without a mark is touched.
import { EGRESS_TABLE } from "../egress/ruleset.ts";
import { isLinkGroup, LINK_PREFIX, NFT_TABLE, ROUTE_PROTOCOL } from "../net/names.ts";
import { decodeAddress, dumpAddresses } from "../netlink/address.ts";
import { NETLINK_NETFILTER, NETLINK_ROUTE, Netlink } from "../netlink/event-loop.ts";
import { deleteLinkAt, type Link } from "../netlink/link.ts";
import type { NetlinkError, Request } from "../netlink/message.ts";
import { deleteRoute, describeRoute, type Route } from "../netlink/route.ts";
import { decodeSourceRule, deleteRule, dumpRules } from "../netlink/rule.ts";
import { BATCH_BEGIN, BATCH_END } from "../nft/message.ts";
import { removeTable } from "../nft/table.ts";
import { POLICY_TABLE } from "../policy/ruleset.ts";
import { changesOf } from "../probe/local-addresses.ts";
import { NetlinkRoutes } from "../routes/kernel.ts";
import { sys } from "../sys/node.ts";

/** All that flatnet ever makes. */
const NFT_TABLES = [NFT_TABLE, EGRESS_TABLE, POLICY_TABLE];

export class KernelRemains {
  readonly #kernel = new NetlinkRoutes(sys);
  readonly #netlink = Netlink.open(NETLINK_ROUTE);

  close(): void {
    this.#kernel.close();
    this.#netlink.close();
  }

  /** The host ends of pods that are there, those whose deletion a daemon had begun too. @throws NetlinkError */
  async hostEnds(): Promise<Link[]> {
    return (await this.#kernel.links()).filter(({ group, name }) => isLinkGroup(group) && name.startsWith(LINK_PREFIX));
  }

  /** @returns the names of what is gone. @throws NetlinkError */
  async removeHostEnds(): Promise<string[]> {
    const ends = await this.hostEnds();
    throwFirst(await this.#kernel.change(ends, ({ index, name }) => deleteLinkAt(index, name)));
    return ends.map(({ name }) => name);
  }

  /** Of every table. @throws NetlinkError */
  async removeRoutes(): Promise<string[]> {
    const routes: Route[] = await this.#kernel.routes();
    throwFirst(await this.#kernel.change(routes, deleteRoute), "ESRCH");
    return routes.map(describeRoute);
  }

  /** @throws NetlinkError */
  async removeRules(): Promise<string[]> {
    const requests: Request[] = [];
    for (const family of [4, 6] as const) {
      for (const message of await this.#netlink.dump(dumpRules(family))) {
        const rule = decodeSourceRule(message);
        if (rule?.protocol === ROUTE_PROTOCOL) requests.push(deleteRule({ ...rule, family }));
      }
    }
    const replies = await this.#netlink.submit(requests);
    throwFirst(
      replies.map(({ error }) => error),
      "ENOENT",
    );
    return requests.map(({ what }) => what.replace(/^delete /, ""));
  }

  /** Those on lo that stand for the node's subnets. @throws NetlinkError */
  async removeAddresses(): Promise<string[]> {
    const there = (await this.#netlink.dump(dumpAddresses())).flatMap((message) => decodeAddress(message) ?? []);
    const requests = changesOf([], there);
    await this.#netlink.request(requests);
    return requests.map(({ what }) => what.replace(/^delete /, ""));
  }

  /** @throws NetlinkError */
  async removeTables(): Promise<string[]> {
    const netfilter = Netlink.open(NETLINK_NETFILTER);
    try {
      for (const table of NFT_TABLES) await netfilter.transaction(BATCH_BEGIN, removeTable(table), BATCH_END);
    } finally {
      netfilter.close();
    }
    return NFT_TABLES;
  }
}

/** What was gone already is what was wanted. */
function throwFirst(errors: readonly (NetlinkError | undefined)[], gone?: string): void {
  const error = errors.find((one) => one !== undefined && one.errnoName !== gone);
  if (error !== undefined) throw error;
}

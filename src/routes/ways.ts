// SPDX-License-Identifier: Apache-2.0
//
// What became of each route that should be, as the kernel says when it is asked. Pure.
import { formatAddress } from "../net/address.ts";
import { ROUTE_PROTOCOL } from "../net/names.ts";
import { addressAt, type Prefix, prefixSize } from "../net/prefix.ts";
import { NetlinkError } from "../netlink/message.ts";
import { describeRoute, lookUpEntry, type Route, TABLE_MAIN } from "../netlink/route.ts";
import { leadsTheSameWay } from "./diff.ts";

export const WAY_STATES = [
  /** Ours is there, and the kernel uses it. */
  "installed",
  /** Ours is there, but the kernel would send packets another way: somebody's rule, table or more exact route comes first. */
  "diverted",
  /** A foreign route has the place of ours. */
  "conflict",
  /** The node's address is reached through a router, so it can't be a next hop. */
  "behind-router",
  /** The kernel refuses the route for another reason. */
  "failed",
  /** The subnet can't be where it is said to be: no route is made. */
  "refused",
] as const;

export type WayState = (typeof WAY_STATES)[number];

export interface Way {
  readonly state: Exclude<WayState, "refused">;
  /** Index of the link out of which packets go; of installed ways to peers only. */
  readonly oif?: number;
  /** What is wrong, for people; of all but installed ways. */
  readonly why?: string;
}

/** What the kernel says to a look-up: an entry of a table, its refusal, or a kind of entry that we don't read. */
export type Answer = Route | NetlinkError | undefined;

/** Asks which entry a packet to the subnet's first address would follow. */
export function askForSubnet(prefix: Prefix) {
  return lookUpEntry(addressAt(prefix, prefixSize(prefix) > 1n ? 1n : 0n));
}

/** Which way packets really go: ours, or the one that the kernel names. */
export function judgeUse(route: Route, answer: Answer): Way {
  if (isEntryOf(route, answer)) return { state: "installed", ...(answer.oif === undefined ? {} : { oif: answer.oif }) };
  return { state: "diverted", why: `the kernel doesn't use it: ${describeAnswer(answer)}` };
}

/** Whether the entry is our route itself. */
function isEntryOf(route: Route, answer: Answer): answer is Route {
  return (
    answer !== undefined &&
    !(answer instanceof NetlinkError) &&
    answer.protocol === ROUTE_PROTOCOL &&
    answer.length === route.length &&
    (answer.table ?? TABLE_MAIN) === (route.table ?? TABLE_MAIN) &&
    leadsTheSameWay(answer, route)
  );
}

/**
 * Why a route could not be made.
 * @param hop the kernel's way to the next hop
 * @param entry what it uses for the subnet now
 */
export function explainRefusal(route: Route, error: NetlinkError, hop: Answer, entry: Answer): Way {
  if (error.errnoName === "EEXIST") {
    const there = entry === undefined || entry instanceof NetlinkError ? "" : `: ${describeAnswer(entry)}`;
    return { state: "conflict", why: `${error.message}; there is one that isn't flatnet's${there}` };
  }
  const via = hop === undefined || hop instanceof NetlinkError ? undefined : hop.gateway;
  if (via !== undefined && route.gateway !== undefined) {
    const node = formatAddress(route.gateway);
    const why = `${node} is behind the router ${formatAddress(via)}, and only a node on the same link can be a next hop`;
    return { state: "behind-router", why };
  }
  return { state: "failed", why: error.message };
}

function describeAnswer(answer: Answer): string {
  if (answer === undefined) return "it has an entry of another kind there";
  if (answer instanceof NetlinkError) return `it has no way there (${answer.errnoName})`;
  const table = (answer.table ?? TABLE_MAIN) === TABLE_MAIN ? "" : ` of table ${answer.table}`;
  const link = answer.gateway === undefined && answer.oif !== undefined ? ` out of link ${answer.oif}` : "";
  return `it uses ${describeRoute(answer)}${link}${table}, protocol ${answer.protocol}`;
}

// SPDX-License-Identifier: Apache-2.0
//
// What DEL must not leave on a node: a host end, a pod's route, a journal entry for a daemon that was there all the time.
import { readdir } from "node:fs/promises";
import { LINK_PREFIX, ROUTE_PROTOCOL } from "../net/names.ts";
import { inParallel } from "./concurrency.ts";
import { ip } from "./ip.ts";
import { nodePaths } from "./state.ts";
import type { Topology } from "./topology.ts";

/** One entry for each thing left, such as "link flx… on node1"; empty when DEL did its work. */
export async function listLeftovers(topology: Topology): Promise<string[]> {
  const found = await inParallel(topology.nodes, 4, async (node) => {
    const routes = ["route", "show", "table", "all", "proto", String(ROUTE_PROTOCOL)];
    const links = parseList(await ip(["-n", node.namespace, "-j", "link", "show"]));
    const v4 = parseList(await ip(["-n", node.namespace, "-j", "-4", ...routes]));
    const v6 = parseList(await ip(["-n", node.namespace, "-j", "-6", ...routes]));
    const journal = await readdir(nodePaths(topology.name, node.name).journalDir);
    return [
      ...hostEnds(links).map((name) => `link ${name} on ${node.name}`),
      ...podRoutes([...v4, ...v6]).map((dst) => `route to ${dst} on ${node.name}`),
      ...journal.map((entry) => `journal entry ${entry} on ${node.name}`),
    ];
  });
  return found.flat();
}

/** Names of flatnet's host ends among the links of `ip -j link`. */
export function hostEnds(links: readonly Record<string, unknown>[]): string[] {
  return links
    .map((link) => String(link["ifname"]))
    .filter((name) => /^[a-z2-7]{13}$/.test(name) && name.startsWith(LINK_PREFIX));
}

/** Destinations that are one host among the routes of `ip -j route`: ip prints those without a prefix length. */
export function podRoutes(routes: readonly Record<string, unknown>[]): string[] {
  return routes.map((route) => String(route["dst"])).filter((dst) => dst !== "default" && !dst.includes("/"));
}

function parseList(json: string): Record<string, unknown>[] {
  // iproute2 prints nothing at all for an empty list in some of its commands.
  const list = json.trim() === "" ? [] : (JSON.parse(json) as Record<string, unknown>[]);
  return list.filter((entry) => Object.keys(entry).length > 0);
}

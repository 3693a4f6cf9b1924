// SPDX-License-Identifier: Apache-2.0
//
// `flatnetctl routes`: which way packets take from this node to every other one's pods.
import { IpamServiceDefinition, type NodeRoute } from "../gen/flatnet/ipam/v1/ipam.ts";
import { readOptions, reporting, withDaemon } from "./command.ts";
import { DEFAULT_SOCKET } from "./daemon-client.ts";
import { formatCount, formatTable, plural } from "./words.ts";
import type { CtlWorld } from "./world.ts";

const USAGE = `usage: flatnetctl routes [options]

The routes from this node to the pods of each other one: next hop, state, and what is wrong with those that packets don't take.

  --broken        only those
  --socket PATH   the daemon's socket (${DEFAULT_SOCKET})
  --json          one JSON document on stdout

Exit code: 0 all are in order, 1 some are not, 2 wrong options or no daemon.
`;

/** @returns the exit status */
export async function runRoutes(args: readonly string[], world: CtlWorld): Promise<number> {
  if (args.some((arg) => /^(help|-h|--help)$/.test(arg))) {
    world.stdout.write(USAGE);
    return 0;
  }
  return reporting("routes", world, async () => {
    const { values } = readOptions(args, { socket: "string", json: "boolean", broken: "boolean" });
    const socket = typeof values["socket"] === "string" ? values["socket"] : DEFAULT_SOCKET;
    const method = IpamServiceDefinition.methods.listNodeRoutes;
    const { routes } = await withDaemon(socket, (daemon) => daemon.call(method, {}));
    const shown = values["broken"] === true ? routes.filter(isBroken) : routes;
    const lines = values["json"] === true ? [toJson(shown)] : [...routeLines(shown), summary(routes)];
    for (const line of lines) world.stdout.write(`${line}\n`);
    return routes.some(isBroken) ? 1 : 0;
  });
}

function isBroken({ state }: NodeRoute): boolean {
  return state !== "installed";
}

/** A table in the order of nodes and subnets, and below it a sentence for each route that isn't in order. Pure. */
export function routeLines(routes: readonly NodeRoute[]): string[] {
  if (routes.length === 0) return [];
  const sorted = routes.toSorted((a, b) => compare(a.node, b.node));
  const rows = sorted.map(({ node, subnet, nextHop, link, state }) => {
    const way = state === "installed" && nextHop === "" ? "ends here" : nextHop;
    return [node === "" ? "-" : node, subnet, way === "" ? "-" : way, link === "" ? "-" : link, state];
  });
  const reasons = sorted.filter(isBroken).map(({ node, subnet, reason }) => `${subnet} of ${node}: ${reason}`);
  return [...formatTable([["NODE", "SUBNET", "NEXT HOP", "LINK", "STATE"], ...rows]), "", ...reasons];
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** "8 routes are in order, 1 refused, 2 behind-router." Pure. */
export function summary(routes: readonly NodeRoute[]): string {
  const counts = new Map<string, number>();
  for (const { state } of routes) counts.set(state, (counts.get(state) ?? 0) + 1);
  const good = counts.get("installed") ?? 0;
  counts.delete("installed");
  const others = [...counts].map(([state, count]) => `, ${formatCount(count)} ${state}`);
  return `${plural(good, "route is", "routes are")} in order${others.join("")}.`;
}

function toJson(routes: readonly NodeRoute[]): string {
  return JSON.stringify({ version: 1, routes }, undefined, 2);
}

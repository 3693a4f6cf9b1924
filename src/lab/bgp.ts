// SPDX-License-Identifier: Apache-2.0
//
// The lab's router where routes are learned: BIRD as a top-of-rack router, with an AS of its own, that takes what any node
// announces and tells it to all the others. Its configuration is written here and not by what the daemon's is, so that a
// proof of the network does not rest on the code it proves.
import { access, constants, mkdir, writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { stringify } from "yaml";
import { inParallel } from "./concurrency.ts";
import { LabError } from "./errors.ts";
import { ip } from "./ip.ts";
import { routerPaths } from "./state.ts";
import type { LabNode, Topology } from "./topology.ts";

const BIRD = "/usr/sbin/bird";
/** AS numbers for private use (RFC 6996). */
const NODES_ASN = 64_512;
const ROUTER_ASN = 64_513;
/** How long routes may take to come before the proof says what is missing. */
const CONVERGENCE_MS = 30_000;

/** @throws LabError LAB_COMMAND_FAILED when there is no BIRD on this machine */
export async function requireBird(): Promise<void> {
  try {
    await access(BIRD, constants.X_OK);
  } catch (cause) {
    const message = `the topology bgp needs ${BIRD} (Debian: apt-get install bird2)`;
    throw new LabError("LAB_COMMAND_FAILED", message, { cause });
  }
}

/** The daemon's configuration beside its flags: the router is its one BGP peer, over each family. */
export function bgpConfig(topology: Topology, node: LabNode): string {
  const router = topology.underlay.links.find(({ name }) => name === node.link)?.router ?? [];
  const peers = router.map((address) => ({ address, asn: ROUTER_ASN }));
  return stringify({ routes: { mode: "bgp", bgp: { asn: NODES_ASN, peers } } });
}

/** The router's configuration: it waits for any node of its links. */
export function routerConfig(topology: Topology): string {
  const sessions = topology.underlay.links.flatMap(({ name, subnets, router }) =>
    subnets.map((subnet, i) => {
      const family = subnet.includes(":") ? 6 : 4;
      const channel = `ipv${family} { import all; export all; };`;
      return [
        `protocol bgp ${name}_${family} {`,
        `  local ${router[i]} as ${ROUTER_ASN};`,
        `  neighbor range ${subnet} as ${NODES_ASN};`,
        `  dynamic name "${name}_${family}_";`,
        "  direct;",
        "  passive;",
        "  graceful restart on;",
        "  error wait time 1, 5;",
        `  ${channel}`,
        "}",
      ].join("\n");
    }),
  );
  return [
    "router id 172.18.1.1;",
    `log "${routerPaths(topology.name).log}" all;`,
    "protocol device { }",
    ...[4, 6].map((f) => `protocol kernel { ipv${f} { import none; export where source = RTS_BGP; }; }`),
    ...sessions,
    "",
  ].join("\n");
}

/** Starts the router's BIRD; it goes with its namespace. @throws LabError LAB_COMMAND_FAILED with BIRD's words */
export async function startRouter(topology: Topology): Promise<void> {
  const { dir, config, socket, pid } = routerPaths(topology.name);
  await mkdir(dir, { recursive: true, mode: 0o700 });
  await writeFile(config, routerConfig(topology), { mode: 0o600 });
  await ip(["netns", "exec", topology.underlay.namespace, BIRD, "-c", config, "-s", socket, "-P", pid]);
}

/**
 * Waits until every node has a route to the pods of every other one, for a while: what is missing then is for the proof to
 * tell.
 * @returns whether all are there
 */
export async function waitForRoutes(topology: Topology, signal: AbortSignal): Promise<boolean> {
  const until = Date.now() + CONVERGENCE_MS;
  for (;;) {
    const missing = await inParallel(topology.nodes, 4, (node) => missingRoutes(topology, node));
    if (missing.every((count) => count === 0)) return true;
    if (Date.now() > until) return false;
    await sleep(100, undefined, { signal });
  }
}

async function missingRoutes({ nodes }: Topology, self: LabNode): Promise<number> {
  const tables = await Promise.all(["-4", "-6"].map((family) => ip(["-n", self.namespace, family, "route"])));
  const there = new Set(tables.flatMap((table) => table.split("\n")).map((line) => line.split(" ")[0]));
  return nodes
    .filter((node) => node !== self)
    .flatMap(({ podCIDRs }) => podCIDRs)
    .filter((cidr) => !there.has(cidr)).length;
}

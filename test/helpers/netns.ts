// SPDX-License-Identifier: Apache-2.0
//
// Network namespaces for tests, made and looked at with iproute2: what flatnet did to the kernel is read by a program
// that is not flatnet.

import { randomBytes } from "node:crypto";
import { type Cleanup, run } from "./daemon.ts";

/**
 * Whether this process may make namespaces. As root it always may. Without root the reason is printed and the tests are to
 * be skipped, unless REQUIRE_KERNEL=1 says (as in CI) that a skipped test is a failed one: then it throws.
 */
export function canUseKernel(): boolean {
  if (process.geteuid?.() === 0) return true;
  const reason = "tests of network namespaces need root";
  if (process.env["REQUIRE_KERNEL"] === "1") throw new Error(`${reason}, and REQUIRE_KERNEL=1 forbids to skip them`);
  process.stderr.write(`skipped: ${reason}\n`);
  return false;
}

/** A network namespace with a name under /run/netns. */
export interface Netns {
  readonly name: string;
  /** The file that stands for it: what setns(2), nsenter and CNI_NETNS take. */
  readonly path: string;
  /** A command line that runs `argv` inside. `ip netns exec` gives it a /sys of its own too, without the cgroups. */
  command(...argv: string[]): string[];
  /** Runs iproute2 inside and returns what it printed. */
  ip(...args: string[]): Promise<string>;
}

/**
 * Makes a network namespace with a unique name and its loopback up. `cleanup` removes it; the kernel then ends its links
 * once no process and no mount holds it any more.
 */
export async function createNetns(label: string, cleanup: Cleanup): Promise<Netns> {
  const name = `t-${label}-${randomBytes(4).toString("hex")}`;
  const path = `/run/netns/${name}`;
  await run(["ip", "netns", "add", name]);
  cleanup.add(() => run(["ip", "netns", "delete", name]));
  await run(["ip", "-n", name, "link", "set", "lo", "up"]);
  return {
    name,
    path,
    command: (...argv) => ["ip", "netns", "exec", name, ...argv],
    ip: (...args) => run(["ip", "-n", name, ...args]),
  };
}

/** One end of a cable: the link's name in the namespace, and its addresses with prefix length. */
export interface CableEnd {
  readonly netns: Netns;
  readonly ifname: string;
  readonly addresses: readonly string[];
}

/** Joins two namespaces by a veth pair, both ends up, their addresses usable at once (no duplicate address detection). */
export async function joinByCable(a: CableEnd, b: CableEnd): Promise<void> {
  const peer = ["peer", "name", b.ifname, "netns", b.netns.name];
  await a.netns.ip("link", "add", a.ifname, "type", "veth", ...peer);
  for (const { netns, ifname, addresses } of [a, b]) {
    for (const address of addresses) {
      await netns.ip("address", "add", address, "dev", ifname, ...(address.includes(":") ? ["nodad"] : []));
    }
    await netns.ip("link", "set", ifname, "up");
  }
}

/** A command line that runs `argv` in the network namespace of a file, keeping /sys and all else. */
export function inNetns(path: string, ...argv: string[]): string[] {
  return ["nsenter", `--net=${path}`, "--", ...argv];
}

/** An address of a link as `ip -json address` has it. */
export interface LinkAddress {
  readonly family: "inet" | "inet6";
  readonly local: string;
  readonly prefixlen: number;
  readonly scope: string;
}

/** The addresses of a link in the network namespace of a file, link-local ones included. */
export async function listAddresses(netnsPath: string, ifname: string): Promise<LinkAddress[]> {
  const links = JSON.parse(await run(inNetns(netnsPath, "ip", "-json", "address", "show", "dev", ifname)));
  return links[0].addr_info;
}

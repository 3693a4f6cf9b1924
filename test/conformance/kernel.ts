// SPDX-License-Identifier: Apache-2.0
//
// What is in a pod, read by iproute2: the suite's second opinion on what a plugin says.

import { commandIn, type Netns } from "./sandbox.ts";

export interface KernelAddress {
  readonly family: "inet" | "inet6";
  readonly local: string;
  readonly prefixlen: number;
  readonly scope: string;
  readonly tentative?: boolean;
  readonly dadfailed?: boolean;
}

export interface KernelLink {
  readonly ifname: string;
  readonly address: string;
  readonly mtu: number;
  readonly flags: readonly string[];
  readonly addr_info: readonly KernelAddress[];
}

export interface KernelRoute {
  /** `default` or a prefix; a single address has no length. */
  readonly dst: string;
  readonly gateway?: string;
  readonly dev?: string;
  readonly protocol?: string;
  readonly family: 4 | 6;
}

export async function readLinks(netns: Netns): Promise<KernelLink[]> {
  return JSON.parse((await commandIn(netns, "ip", "-j", "address", "show")) || "[]");
}

export async function readLink(netns: Netns, ifname: string): Promise<KernelLink | undefined> {
  return (await readLinks(netns)).find((link) => link.ifname === ifname);
}

/** All tables but the local one. */
export async function readRoutes(netns: Netns): Promise<KernelRoute[]> {
  const routes: KernelRoute[] = [];
  for (const family of [4, 6] as const) {
    const text = await commandIn(netns, "ip", "-N", "-j", `-${family}`, "route", "show", "table", "all");
    const all = JSON.parse(text.trim() || "[]") as (KernelRoute & { table?: string })[];
    routes.push(...all.filter(({ table, dst }) => dst !== undefined && table !== "255").map((r) => ({ ...r, family })));
  }
  return routes;
}

/** Addresses that others can use: no loopback, no link-local. */
export function globalAddresses(link: KernelLink | undefined): KernelAddress[] {
  return (link?.addr_info ?? []).filter(({ scope }) => scope === "global");
}

/** `10.1.0.3/24`, IPv6 in the kernel's spelling. */
export function withLength({ local, prefixlen }: KernelAddress): string {
  return `${local}/${prefixlen}`;
}

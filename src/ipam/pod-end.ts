// SPDX-License-Identifier: Apache-2.0
//
// What a record says of the pod's end of its link beside the addresses, so that a daemon can repair it without the plugin's
// configuration. Parsed at two edges: from the plugin's request, and from the disk.
import type * as wire from "../gen/flatnet/ipam/v1/ipam.ts";
import { formatPrefix, PrefixError, parsePrefix } from "../net/prefix.ts";
import { IpamError, quote } from "./errors.ts";

/** The pod's end of a link as ADD made it. */
export interface PodEnd {
  /** The namespace's identity: device and inode of its file, "4:4026532301" (netnsIdentity of net/names.ts). */
  readonly netnsId: string;
  /** Those that the configuration asked for. */
  readonly routes: readonly WishedRoute[];
}

/** A route by the pod's next hop. What is absent is the kernel's default. */
export interface WishedRoute {
  /** Canonical text of a prefix. */
  readonly destination: string;
  readonly priority?: number;
  readonly table?: number;
  readonly scope?: number;
  /** In bytes. */
  readonly mtu?: number;
  readonly advmss?: number;
}

/** Most routes of one attachment; the plugin takes no more either. */
const ROUTES_MAX = 1024;

const NUMBERS = { priority: 0xffff_ffff, table: 0xffff_ffff, scope: 255, mtu: 0xffff, advmss: 0xffff } as const;

/** @throws IpamError IPAM_INVALID, naming the field and its value */
export function parsePodEnd(message: wire.PodEnd | undefined): PodEnd | undefined {
  if (message === undefined) return undefined;
  const { netnsId, routes } = message;
  if (!isNetnsId(netnsId)) {
    throw new IpamError(
      "IPAM_INVALID",
      `pod_end.netns_id is ${quote(netnsId)}; it must be two numbers, "4:4026532301"`,
    );
  }
  if (routes.length > ROUTES_MAX) {
    throw new IpamError("IPAM_INVALID", `pod_end.routes has ${routes.length} entries, over ${ROUTES_MAX}`);
  }
  return { netnsId, routes: routes.map((route, i) => parseRoute(`pod_end.routes[${i}]`, { ...route })) };
}

/** The same from a record's JSON; undefined when it makes no sense, which its reader turns into an error. */
export function readPodEnd(value: unknown): PodEnd | undefined {
  if (!isObject(value) || !Array.isArray(value["routes"]) || !isNetnsId(value["netnsId"])) return undefined;
  try {
    const routes = value["routes"].map((route: unknown) => parseRoute("routes", isObject(route) ? route : {}));
    return { netnsId: value["netnsId"], routes };
  } catch (error) {
    if (error instanceof IpamError) return undefined;
    throw error;
  }
}

function parseRoute(at: string, fields: Record<string, unknown>): WishedRoute {
  const numbers: Record<string, number> = {};
  for (const [name, most] of Object.entries(NUMBERS)) {
    const value = fields[name];
    if (value === undefined) continue;
    if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > most) {
      throw new IpamError("IPAM_INVALID", `${at}.${name} is ${String(value)}; it must be 0 to ${most}`);
    }
    numbers[name] = value;
  }
  return { destination: parseDestination(`${at}.destination`, fields["destination"]), ...numbers };
}

function parseDestination(field: string, value: unknown): string {
  const text = typeof value === "string" ? value : "";
  try {
    return formatPrefix(parsePrefix(text));
  } catch (cause) {
    if (!(cause instanceof PrefixError)) throw cause;
    throw new IpamError("IPAM_INVALID", `${field} is ${quote(text)}; it must be a network such as 10.0.0.0/8`, cause);
  }
}

function isNetnsId(value: unknown): value is string {
  return typeof value === "string" && /^\d{1,20}:\d{1,20}$/.test(value);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

// SPDX-License-Identifier: Apache-2.0
//
// Routes: struct rtmsg and RTA_* of include/uapi/linux/rtnetlink.h.
import { type Family, formatAddress } from "../net/address.ts";
import {
  attributes,
  attrU32,
  Body,
  type Message,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  type Request,
} from "./message.ts";

export const RTM_NEWROUTE = 24;
export const RTM_DELROUTE = 25;
const RTM_GETROUTE = 26;

export const AF_INET = 2;
export const AF_INET6 = 10;

export const SCOPE_UNIVERSE = 0;
export const SCOPE_LINK = 253;
const SCOPE_NOWHERE = 255;

export const TABLE_MAIN = 254;
/** The kernel's own: addresses of this host, broadcast and multicast. */
export const TABLE_LOCAL = 255;

const RTN_UNICAST = 1;
const RTN_UNREACHABLE = 7;
const RTM_F_CLONED = 0x200;
const RTM_F_LOOKUP_TABLE = 0x1000;
const RTM_F_FIB_MATCH = 0x2000;
const RTNH_F_ONLINK = 4;

const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PRIORITY = 6;
const RTA_METRICS = 8;
const RTA_TABLE = 15;
const RTAX_MTU = 2;
const RTAX_ADVMSS = 8;

/** The kernel's number of an address's family. */
export function addressFamily(address: Uint8Array): number {
  return address.length === 4 ? AF_INET : AF_INET6;
}

/** A route as the kernel keys it and as `ip route` prints it. */
export interface Route {
  readonly family: Family;
  /** 4 or 16 bytes; all zero with length 0 is the default route. */
  readonly destination: Uint8Array;
  readonly length: number;
  readonly kind: "unicast" | "unreachable";
  readonly gateway?: Uint8Array;
  /** Index of the outgoing link; the kernel finds it from the gateway where it isn't given. */
  readonly oif?: number;
  /** The gateway is on the link, whatever other routes say. */
  readonly onlink?: boolean;
  readonly scope?: number;
  /** Lower wins. IPv4 has 0 where none is given, IPv6 1024. */
  readonly priority?: number;
  /** TABLE_MAIN where it isn't given. */
  readonly table?: number;
  readonly protocol: number;
  /** MTU in bytes of the route itself. */
  readonly mtu?: number;
  /** Largest TCP segment in bytes to tell peers of (advmss). */
  readonly advmss?: number;
}

/** `10.244.2.0/24 via 172.18.0.3`, as people read it. */
export function describeRoute(route: Route): string {
  const destination = route.length === 0 ? "default" : `${formatAddress(route.destination)}/${route.length}`;
  const gateway = route.gateway === undefined ? "" : ` via ${formatAddress(route.gateway)}`;
  return `${route.kind === "unreachable" ? "unreachable " : ""}${destination}${gateway}`;
}

function routeBody(route: Route): Uint8Array {
  const table = route.table ?? TABLE_MAIN;
  const unreachable = route.kind === "unreachable";
  // An IPv4 route without a gateway leads to the link itself; rtm_scope is not used by IPv6.
  const scope = unreachable || route.gateway !== undefined || route.family === 6 ? SCOPE_UNIVERSE : SCOPE_LINK;
  // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags.
  const body = new Body()
    .u8(route.family === 4 ? AF_INET : AF_INET6)
    .u8(route.length)
    .u8(0)
    .u8(0)
    .u8(table < 256 ? table : 0)
    .u8(route.protocol)
    .u8(route.scope ?? scope)
    .u8(unreachable ? RTN_UNREACHABLE : RTN_UNICAST)
    .u32(route.onlink ? RTNH_F_ONLINK : 0);
  if (route.length > 0) body.attr(RTA_DST, route.destination);
  if (route.gateway !== undefined) body.attr(RTA_GATEWAY, route.gateway);
  if (route.oif !== undefined) body.attrU32(RTA_OIF, route.oif);
  if (route.priority !== undefined) body.attrU32(RTA_PRIORITY, route.priority);
  if (table >= 256) body.attrU32(RTA_TABLE, table);
  if (route.mtu !== undefined || route.advmss !== undefined) {
    body.nest(RTA_METRICS, (metrics) => {
      if (route.mtu !== undefined) metrics.attrU32(RTAX_MTU, route.mtu);
      if (route.advmss !== undefined) metrics.attrU32(RTAX_ADVMSS, route.advmss);
    });
  }
  return body.done();
}

/** `ip route add`: EEXIST when there is one with the same destination, table, TOS and metric. */
export function addRoute(route: Route): Request {
  const flags = NLM_F_CREATE | NLM_F_EXCL;
  return request(RTM_NEWROUTE, flags, routeBody(route), () => `add route ${describeRoute(route)}`);
}

/** `ip route replace`: takes the place of the route with the same destination and metric in one step. */
export function replaceRoute(route: Route): Request {
  const flags = NLM_F_CREATE | NLM_F_REPLACE;
  return request(RTM_NEWROUTE, flags, routeBody(route), () => `set route ${describeRoute(route)}`);
}

/** `ip route del`, of exactly this route: type and protocol have to match too. ESRCH when there is none. */
export function deleteRoute(route: Route): Request {
  // rtm_scope is compared too; nowhere is the wildcard (ip route del sends the same).
  const body = routeBody({ ...route, scope: SCOPE_NOWHERE });
  return request(RTM_DELROUTE, 0, body, () => `delete route ${describeRoute(route)}`);
}

/** All routes of a family that carry the protocol number; the kernel filters where NETLINK_GET_STRICT_CHK is on. */
export function dumpRoutes(family: Family, protocol: number): Request {
  const body = new Body()
    .u8(family === 4 ? AF_INET : AF_INET6)
    .u8(0)
    .u16(0)
    .u8(0)
    .u8(protocol)
    .u8(0)
    .u8(0)
    .u32(0);
  return { type: RTM_GETROUTE, flags: 0, body: body.done(), what: `list IPv${family} routes` };
}

/**
 * Which way the kernel would send a packet to the address now: `ip route get ADDRESS`, and with `entry` the table's entry
 * that says so (`ip route get fibmatch`). The answer is one RTM_NEWROUTE.
 */
export function lookUpRoute(address: Uint8Array, entry = false): Request {
  return lookUp(address, entry ? RTM_F_FIB_MATCH : 0);
}

/** The same of the entry, with the table it is in: IPv4 calls every table the main one unless it is asked not to. */
export function lookUpEntry(address: Uint8Array): Request {
  return lookUp(address, RTM_F_FIB_MATCH | (address.length === 4 ? RTM_F_LOOKUP_TABLE : 0));
}

function lookUp(address: Uint8Array, flags: number): Request {
  const length = address.length * 8;
  const body = new Body().u8(addressFamily(address)).u8(length).u16(0).u32(0).u32(flags).attr(RTA_DST, address);
  return request(RTM_GETROUTE, 0, body.done(), () => `look up the route to ${formatAddress(address)}`);
}

/** A request whose words are only found when somebody wants to read them: of ten thousand routes nobody does. */
function request(type: number, flags: number, body: Uint8Array, words: () => string): Request {
  return {
    type,
    flags,
    body,
    get what() {
      return words();
    },
  };
}

/** What every kind of route has. */
export interface RouteHead {
  readonly family: Family;
  /** 4 or 16 bytes. */
  readonly destination: Uint8Array;
  readonly length: number;
  readonly table: number;
  readonly protocol: number;
}

/** Reads the head of an RTM_NEWROUTE or RTM_DELROUTE message, whatever kind of route it is of; undefined of a cache's entry. */
export function decodeRouteHead({ body, type }: Message): RouteHead | undefined {
  if ((type !== RTM_NEWROUTE && type !== RTM_DELROUTE) || body.length < 12) return undefined;
  const family = body[0] === AF_INET ? 4 : body[0] === AF_INET6 ? 6 : undefined;
  const flags = new DataView(body.buffer, body.byteOffset).getUint32(8, true);
  if (family === undefined || (flags & RTM_F_CLONED) !== 0) return undefined;
  const found = attributes(body.subarray(12));
  const destination = found.get(RTA_DST) ?? new Uint8Array(family === 4 ? 4 : 16);
  if (destination.length !== (family === 4 ? 4 : 16)) return undefined;
  const table = attrU32(found.get(RTA_TABLE)) ?? (body[4] as number);
  return { family, destination, length: body[1] as number, table, protocol: body[5] as number };
}

/** Reads an RTM_NEWROUTE or RTM_DELROUTE message of a unicast or unreachable route; undefined when it is anything else. */
export function decodeRoute(message: Message): Route | undefined {
  const { body, type } = message;
  if ((type !== RTM_NEWROUTE && type !== RTM_DELROUTE) || body.length < 12) return undefined;
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const family = body[0] === AF_INET ? 4 : body[0] === AF_INET6 ? 6 : undefined;
  const kind = body[7] === RTN_UNICAST ? "unicast" : body[7] === RTN_UNREACHABLE ? "unreachable" : undefined;
  if (family === undefined || kind === undefined) return undefined;
  // A cache entry, not a route; only the answer to a look-up has this flag as well as our interest.
  const cloned = (view.getUint32(8, true) & RTM_F_CLONED) !== 0;
  const found = attributes(body.subarray(12));
  const size = family === 4 ? 4 : 16;
  const destination = found.get(RTA_DST) ?? new Uint8Array(size);
  const gateway = found.get(RTA_GATEWAY);
  if (destination.length !== size || (gateway !== undefined && gateway.length !== size)) return undefined;
  const oif = attrU32(found.get(RTA_OIF));
  const priority = attrU32(found.get(RTA_PRIORITY));
  const metrics = found.get(RTA_METRICS);
  const limits = metrics === undefined || cloned ? undefined : attributes(metrics);
  const [mtu, advmss] = [RTAX_MTU, RTAX_ADVMSS].map((type) => attrU32(limits?.get(type)));
  return {
    family,
    destination: new Uint8Array(destination),
    length: body[1] as number,
    kind,
    protocol: body[5] as number,
    scope: body[6] as number,
    table: attrU32(found.get(RTA_TABLE)) ?? (body[4] as number),
    ...(gateway === undefined ? {} : { gateway: new Uint8Array(gateway) }),
    ...(oif === undefined ? {} : { oif }),
    ...(priority === undefined ? {} : { priority }),
    ...(mtu === undefined ? {} : { mtu }),
    ...(advmss === undefined ? {} : { advmss }),
  };
}

// SPDX-License-Identifier: Apache-2.0
//
// What ADD answers (CNI spec, section 5, "ADD Success"): one form inside, the form of each supported version outside.
// Pure.
import { formatAddress } from "../net/address.ts";
import { asCidr, asInteger, asList, asObject, asString, asStrings, type Fields, present } from "./fields.ts";
import { assertSupported, atLeast, type CniVersion } from "./version.ts";

export interface Interface {
  readonly name: string;
  readonly mac: string;
  /** CNI_NETNS of an interface in a container; absent on the host's. */
  readonly sandbox?: string;
  /** Bytes; 1.1.0. */
  readonly mtu?: number;
  readonly socketPath?: string;
  readonly pciID?: string;
}

export interface IpConfig {
  /** "10.244.1.7/32". */
  readonly address: string;
  readonly gateway?: string;
  /** Index in `interfaces`. */
  readonly interface?: number;
}

export interface ResultRoute {
  readonly dst: string;
  readonly gw?: string;
  readonly mtu?: number;
  readonly advmss?: number;
  readonly priority?: number;
  readonly table?: number;
  readonly scope?: number;
}

export interface Dns {
  readonly nameservers?: readonly string[];
  readonly domain?: string;
  readonly search?: readonly string[];
  readonly options?: readonly string[];
}

export interface Result {
  readonly interfaces: readonly Interface[];
  readonly ips: readonly IpConfig[];
  readonly routes: readonly ResultRoute[];
  readonly dns: Dns;
}

/** A route in the units of the kernel; what isn't said is absent or undefined. */
export interface KernelRoute {
  readonly destination: Uint8Array;
  readonly length: number;
  readonly gateway?: Uint8Array | undefined;
  readonly mtu?: number | undefined;
  readonly advmss?: number | undefined;
  readonly priority?: number | undefined;
  readonly table?: number | undefined;
  readonly scope?: number | undefined;
}

/** The route as a result says it. */
export function toResultRoute(route: KernelRoute): ResultRoute {
  const { destination, length, gateway, mtu, advmss, priority, table, scope } = route;
  return {
    dst: `${formatAddress(destination)}/${length}`,
    ...(gateway !== undefined && { gw: formatAddress(gateway) }),
    ...(mtu !== undefined && { mtu }),
    ...(advmss !== undefined && { advmss }),
    ...(priority !== undefined && { priority }),
    ...(table !== undefined && { table }),
    ...(scope !== undefined && { scope }),
  };
}

/** The document in the caller's version. */
export function resultDocument(result: Result, cniVersion: CniVersion): string {
  if (!atLeast(cniVersion, "0.3.0")) return JSON.stringify({ cniVersion, ...legacyResult(result) });
  const { interfaces, ips, routes, dns } = result;
  const newest = atLeast(cniVersion, "1.1.0");
  // ips[].version went with 1.0.0; interfaces[].mtu and most of a route came with 1.1.0.
  const withVersion = !atLeast(cniVersion, "1.0.0");
  return JSON.stringify({
    cniVersion,
    ...(interfaces.length > 0 && {
      interfaces: newest
        ? interfaces
        : interfaces.map(({ name, mac, sandbox }) => ({ name, mac, ...(sandbox !== undefined && { sandbox }) })),
    }),
    ips: withVersion ? ips.map((ip) => ({ version: ip.address.includes(":") ? "6" : "4", ...ip })) : ips,
    routes: newest ? routes : routes.map(({ dst, gw }) => ({ dst, ...(gw !== undefined && { gw }) })),
    dns,
  });
}

/** 0.1.0 and 0.2.0: one address a family and no interfaces. */
function legacyResult({ ips, routes, dns }: Result): object {
  const family = (v6: boolean) => {
    const ip = ips.find(({ address }) => address.includes(":") === v6);
    if (ip === undefined) return undefined;
    const own = routes.filter(({ dst }) => dst.includes(":") === v6);
    return {
      ip: ip.address,
      ...(ip.gateway !== undefined && { gateway: ip.gateway }),
      routes: own.map(({ dst, gw }) => ({ dst, ...(gw !== undefined && { gw }) })),
    };
  };
  const [ip4, ip6] = [family(false), family(true)];
  return { ...(ip4 && { ip4 }), ...(ip6 && { ip6 }), dns };
}

/**
 * A result that came as prevResult, of any supported version; it has its own cniVersion or the configuration's.
 * @throws CniError 7 naming the field, 1 for its version
 */
export function parseResult(at: string, fields: Fields, confVersion: CniVersion): Result {
  const version = assertSupported(asString(`${at}.cniVersion`, fields["cniVersion"], confVersion));
  const dns = parseResultDns(`${at}.dns`, asObject(`${at}.dns`, fields["dns"]));
  if (!atLeast(version, "0.3.0")) return { ...parseLegacy(at, fields), dns };
  const list = <T>(key: string, read: (at: string, item: Fields) => T) =>
    asList(`${at}.${key}`, fields[key]).map((item, i) =>
      read(`${at}.${key}.${i}`, asObject(`${at}.${key}.${i}`, item)),
    );
  return {
    interfaces: list("interfaces", parseInterface),
    ips: list("ips", parseIp),
    routes: list("routes", parseRoute),
    dns,
  };
}

function parseLegacy(at: string, fields: Fields): Omit<Result, "dns"> {
  const ips: IpConfig[] = [];
  const routes: ResultRoute[] = [];
  for (const key of ["ip4", "ip6"]) {
    if (!present(fields[key])) continue;
    const own = asObject(`${at}.${key}`, fields[key]);
    ips.push({ address: cidr(`${at}.${key}.ip`, own["ip"]), ...text(`${at}.${key}`, own, "gateway") });
    const list = asList(`${at}.${key}.routes`, own["routes"]);
    routes.push(
      ...list.map((item, i) => parseRoute(`${at}.${key}.routes.${i}`, asObject(`${at}.${key}.routes.${i}`, item))),
    );
  }
  return { interfaces: [], ips, routes };
}

function parseInterface(at: string, fields: Fields): Interface {
  return {
    name: asString(`${at}.name`, fields["name"], ""),
    mac: asString(`${at}.mac`, fields["mac"], ""),
    ...text(at, fields, "sandbox"),
    ...number(at, fields, "mtu"),
    ...text(at, fields, "socketPath"),
    ...text(at, fields, "pciID"),
  };
}

function parseIp(at: string, fields: Fields): IpConfig {
  return {
    address: cidr(`${at}.address`, fields["address"]),
    ...text(at, fields, "gateway"),
    ...number(at, fields, "interface"),
  };
}

function parseRoute(at: string, fields: Fields): ResultRoute {
  return {
    dst: cidr(`${at}.dst`, fields["dst"]),
    ...text(at, fields, "gw"),
    ...number(at, fields, "mtu"),
    ...number(at, fields, "advmss"),
    ...number(at, fields, "priority"),
    ...number(at, fields, "table"),
    ...number(at, fields, "scope"),
  };
}

function parseResultDns(at: string, fields: Fields): Dns {
  const list = (key: string) => {
    const items = asStrings(`${at}.${key}`, fields[key]);
    return items.length > 0 ? { [key]: items } : {};
  };
  return { ...list("nameservers"), ...text(at, fields, "domain"), ...list("search"), ...list("options") };
}

/** The field under its own name, or nothing where it is absent or empty. */
function text<K extends string>(at: string, fields: Fields, key: K): { [P in K]?: string } {
  const value = asString(`${at}.${key}`, fields[key], "");
  return (value === "" ? {} : { [key]: value }) as { [P in K]?: string };
}

function number<K extends string>(at: string, fields: Fields, key: K): { [P in K]?: number } {
  if (!present(fields[key])) return {};
  return { [key]: asInteger(`${at}.${key}`, fields[key], 0, 0, 0xffff_ffff) } as { [P in K]?: number };
}

function cidr(at: string, value: unknown): string {
  const { address, length } = asCidr(at, value);
  return `${formatAddress(address)}/${length}`;
}

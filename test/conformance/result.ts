// SPDX-License-Identifier: Apache-2.0
//
// ADD's result in each version's shape (CNI spec, section 5, "ADD Success"), read into one form. Pure.

import { isIP, isIPv4, SocketAddress } from "node:net";
import { isObject } from "./conf.ts";
import { isAtLeast, type SpecVersion } from "./spec.ts";

export interface ResultInterface {
  readonly name: string;
  readonly mac: string | undefined;
  readonly mtu: number | undefined;
  /** Empty on the host. */
  readonly sandbox: string;
}

export interface ResultAddress {
  readonly family: 4 | 6;
  readonly address: string;
  readonly length: number;
  readonly gateway: string | undefined;
  /** Index into the interfaces. */
  readonly interface: number | undefined;
}

export interface ResultRoute {
  readonly dst: string;
  readonly gw: string | undefined;
  readonly table: number | undefined;
}

export interface AddResult {
  readonly document: Readonly<Record<string, unknown>>;
  readonly interfaces: readonly ResultInterface[];
  readonly addresses: readonly ResultAddress[];
  readonly routes: readonly ResultRoute[];
  /** Where the document is not of the version's shape. What is wrong is missing from the lists. */
  readonly problems: readonly string[];
}

/** Reads a result of the version, or what is readable of it. */
export function readResult(document: Readonly<Record<string, unknown>>, spec: SpecVersion): AddResult {
  const problems: string[] = [];
  const isLegacy = !isAtLeast(spec, "0.3.0");
  const interfaces = isLegacy
    ? []
    : list(document, "interfaces", problems).flatMap((one, i) => readInterface(one, i, problems));
  const { addresses, routes } = isLegacy ? readLegacy(document, problems) : readModern(document, problems);
  checkDns(document["dns"], problems);
  return { document, interfaces, addresses, routes, problems };
}

/** One spelling for each address, as the kernel has it. */
export function canonical(address: string): string {
  return new SocketAddress({ address, family: isIPv4(address) ? "ipv4" : "ipv6" }).address;
}

function readInterface(value: unknown, index: number, problems: string[]): ResultInterface[] {
  const at = `interfaces[${index}]`;
  if (!isObject(value)) return problem(problems, `${at} is not an object`);
  const { name, mac, mtu, sandbox } = value;
  if (typeof name !== "string" || name === "") return problem(problems, `${at}.name is ${show(name)}, not a name`);
  if (!isOptionalString(mac)) problems.push(`${at}.mac is ${show(mac)}, not a string`);
  if (!isOptionalString(sandbox)) problems.push(`${at}.sandbox is ${show(sandbox)}, not a string`);
  if (mtu !== undefined && !isUint(mtu)) problems.push(`${at}.mtu is ${show(mtu)}, not an unsigned number`);
  return [
    {
      name,
      mac: typeof mac === "string" && mac !== "" ? mac : undefined,
      mtu: isUint(mtu) && mtu !== 0 ? mtu : undefined,
      sandbox: typeof sandbox === "string" ? sandbox : "",
    },
  ];
}

function readModern(document: Readonly<Record<string, unknown>>, problems: string[]) {
  const addresses = list(document, "ips", problems).flatMap((value, index) => {
    const at = `ips[${index}]`;
    if (!isObject(value)) return problem(problems, `${at} is not an object`);
    const index_ = value["interface"];
    if (index_ !== undefined && index_ !== null && !isUint(index_)) {
      problems.push(`${at}.interface is ${show(index_)}, not an index`);
    }
    return readAddress(value, "address", `${at}.address`, isUint(index_) ? index_ : undefined, problems);
  });
  return { addresses, routes: readRoutes(list(document, "routes", problems), "routes", problems) };
}

/** 0.1.0 and 0.2.0: `ip4` and `ip6`, each `{ip, gateway, routes}`. */
function readLegacy(document: Readonly<Record<string, unknown>>, problems: string[]) {
  const addresses: ResultAddress[] = [];
  const routes: ResultRoute[] = [];
  for (const [key, family] of [
    ["ip4", 4],
    ["ip6", 6],
  ] as const) {
    const value = document[key];
    if (value === undefined || value === null) continue;
    if (!isObject(value)) {
      problems.push(`${key} is ${show(value)}, not an object`);
      continue;
    }
    const [address] = readAddress(value, "ip", `${key}.ip`, undefined, problems);
    if (address !== undefined && address.family !== family)
      problems.push(`${key}.ip is ${show(value["ip"])}, not IPv${family}`);
    if (address !== undefined) addresses.push(address);
    routes.push(...readRoutes(list(value, "routes", problems), `${key}.routes`, problems));
  }
  return { addresses, routes };
}

function readAddress(
  value: Record<string, unknown>,
  key: string,
  at: string,
  index: number | undefined,
  problems: string[],
): ResultAddress[] {
  const cidr = parseCidr(value[key]);
  const gateway = value["gateway"];
  const hasGateway = gateway !== undefined && gateway !== null && gateway !== "";
  if (hasGateway && (typeof gateway !== "string" || isIP(gateway) === 0)) {
    problems.push(`the gateway beside ${at} is ${show(gateway)}, not an address`);
  }
  if (cidr === undefined) return problem(problems, `${at} is ${show(value[key])}, not an address with a prefix length`);
  return [
    {
      ...cidr,
      gateway: hasGateway && typeof gateway === "string" && isIP(gateway) !== 0 ? canonical(gateway) : undefined,
      interface: index,
    },
  ];
}

function readRoutes(values: readonly unknown[], where: string, problems: string[]): ResultRoute[] {
  return values.flatMap((value, index) => {
    const at = `${where}[${index}]`;
    if (!isObject(value)) return problem(problems, `${at} is not an object`);
    const { dst, gw, table } = value;
    for (const key of ["mtu", "advmss", "priority", "table", "scope"]) {
      const number = value[key];
      if (number !== undefined && number !== null && !isUint(number)) {
        problems.push(`${at}.${key} is ${show(number)}, not an unsigned number`);
      }
    }
    const cidr = parseCidr(dst);
    const hasGateway = gw !== undefined && gw !== null && gw !== "";
    if (hasGateway && (typeof gw !== "string" || isIP(gw) === 0))
      problems.push(`${at}.gw is ${show(gw)}, not an address`);
    if (cidr === undefined) return problem(problems, `${at}.dst is ${show(dst)}, not a prefix`);
    return [
      {
        dst: `${cidr.address}/${cidr.length}`,
        gw: hasGateway && typeof gw === "string" && isIP(gw) !== 0 ? canonical(gw) : undefined,
        table: isUint(table) ? table : undefined,
      },
    ];
  });
}

function checkDns(dns: unknown, problems: string[]): void {
  if (dns === undefined || dns === null) return;
  if (!isObject(dns)) {
    problems.push(`dns is ${show(dns)}, not an object`);
    return;
  }
  for (const key of ["nameservers", "search", "options"]) {
    const value = dns[key];
    const isList = Array.isArray(value) && value.every((one) => typeof one === "string");
    if (value !== undefined && value !== null && !isList)
      problems.push(`dns.${key} is ${show(value)}, not a list of strings`);
  }
  if (!isOptionalString(dns["domain"])) problems.push(`dns.domain is ${show(dns["domain"])}, not a string`);
}

function parseCidr(value: unknown): { family: 4 | 6; address: string; length: number } | undefined {
  const [, address = "", digits = ""] = /^([^/]+)\/(\d{1,3})$/.exec(typeof value === "string" ? value : "") ?? [];
  const family = isIP(address);
  const length = Number(digits);
  if ((family !== 4 && family !== 6) || length > (family === 4 ? 32 : 128)) return undefined;
  return { family, address: canonical(address), length };
}

function list(document: Readonly<Record<string, unknown>>, key: string, problems: string[]): readonly unknown[] {
  const value = document[key];
  if (value === undefined || value === null) return [];
  if (Array.isArray(value)) return value;
  problems.push(`${key} is ${show(value)}, not a list`);
  return [];
}

function problem(problems: string[], text: string): [] {
  problems.push(text);
  return [];
}

function isOptionalString(value: unknown): boolean {
  return value === undefined || value === null || typeof value === "string";
}

function isUint(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0;
}

function show(value: unknown): string {
  return value === undefined ? "missing" : JSON.stringify(value);
}

// SPDX-License-Identifier: Apache-2.0
//
// The plugin's configuration: what a runtime derives from the conflist and gives on stdin (CNI spec, section 3). Parsed
// once. Pure.
import { formatAddress } from "../net/address.ts";
import { ALIAS_RULE, ALIASES_MAX, isAlias } from "../net/dns-name.ts";
import { IDENTIFIER_MAX } from "../net/names.ts";
import type { Bandwidth } from "../podnet/bandwidth.ts";
import type { RouteWish } from "../podnet/plan.ts";
import { isIdentifier } from "./args.ts";
import { parseBandwidth } from "./bandwidth.ts";
import { CNI_CODES, CniError } from "./errors.ts";
import {
  asAddress,
  asCapability,
  asCidr,
  asInteger,
  asList,
  asObject,
  asPath,
  asString,
  asStrings,
  type Fields,
  invalid,
  present,
} from "./fields.ts";
import { type Dns, parseResult, type Result } from "./result.ts";
import { assertSupported, type CniVersion } from "./version.ts";

/** Largest configuration that is read, in bytes. */
export const CONF_MAX_BYTES = 1 << 20;

/** A route of the pod beside its default one (`routes` of the configuration; CNI spec, section 5, "routes"). */
export type RouteConf = RouteWish;

/** One hostPort (CONVENTIONS.md, portMappings). */
export interface PortMapping {
  readonly hostPort: number;
  readonly containerPort: number;
  readonly protocol: "tcp" | "udp" | "sctp";
  /** Canonical text; empty for every address of the node. */
  readonly hostIp: string;
}

/** Where the daemon is; all that VERSION's siblings without a pod need. */
export interface DaemonConf {
  readonly cniVersion: CniVersion;
  /** Name of the network, a part of every key. */
  readonly name: string;
  /** Path of the daemon's unix socket. */
  readonly socket: string;
  /** Deadline of a whole call to the daemon, in milliseconds. */
  readonly timeoutMs: number;
  /** How long, out of `timeoutMs`, to wait for a daemon that isn't listening: it may be restarting. */
  readonly connectWaitMs: number;
  /** Where DEL leaves word for a daemon that is down. */
  readonly journalDir: string;
}

export interface GcConf extends DaemonConf {
  /** The attachments to keep, as `containerID/ifname`. */
  readonly validAttachments: ReadonlySet<string>;
}

/** What `flatnet` and `flatnet-ipam` have in common. */
export interface IpamConf extends DaemonConf {
  /** Addresses the runtime asks for, canonical text. */
  readonly requestedAddresses: readonly string[];
  /** Names for the container in the network (CONVENTIONS.md, aliases), for the daemon to keep. */
  readonly aliases: readonly string[];
  readonly routes: readonly RouteConf[];
  /** Name of the daemon's pool that the addresses are to be of; empty lets the daemon choose. */
  readonly pool: string;
  /** Keep the addresses for their owner after DEL: how long in seconds, and for whom if it isn't the pod. */
  readonly sticky: { readonly ttlSeconds: number; readonly owner: string } | undefined;
  readonly dns: Dns;
  /** The result of the plugins before this one (ADD) or of the attachment's own ADD (CHECK). */
  readonly prevResult: Result | undefined;
}

export interface PluginConf extends IpamConf {
  /** MTU in bytes for both ends; 0 takes the daemon's. */
  readonly mtu: number;
  /** MAC of the pod's end that the runtime asks for. */
  readonly mac: Uint8Array | undefined;
  readonly portMappings: readonly PortMapping[];
  readonly bandwidth: Bandwidth | undefined;
  /** Sysctls of the pod: "net.ipv4.ip_unprivileged_port_start" to their value. */
  readonly sysctls: ReadonlyMap<string, string>;
}

export const DEFAULT_SOCKET = "/run/flatnet/flatnetd.sock";
export const DEFAULT_JOURNAL_DIR = "/var/lib/flatnet/journal";
const DEFAULT_TIMEOUT_MS = 10_000;
const DEFAULT_CONNECT_WAIT_MS = 5_000;
/** The sun_path of a unix socket's address without its closing zero. */
const SOCKET_PATH_MAX = 107;
/** What a configuration without cniVersion is (cni, Documentation/spec-upgrades.md). */
const VERSION_WHEN_ABSENT = "0.2.0";
/** A route of scope link, 253, or narrower has no next hop, and a pod's link has nobody else (fib_check_nh). */
const MOST_SCOPE = 252;
/** A year. */
const STICKY_SECONDS_MAX = 31_536_000;
/** Largest numbers of the kernel's types. */
const U32 = 0xffff_ffff;

/** Which of the two plugins the executable is now: it goes by its name. */
export type Mode = "flatnet" | "flatnet-ipam";

/**
 * All that DEL looks at. A DEL comes with whatever the configuration has become since (CNI spec, section 3), so
 * it must not trip over a field that it does not need.
 * @throws CniError 6 when the text is no JSON object, 7 naming the field and its value, 1 for a version
 */
export function parseDaemonConf(text: string, mode: Mode): DaemonConf {
  return readDaemonConf(parseObject(text), mode);
}

/** What STATUS looks at. @throws CniError as parseDaemonConf */
export function parseStatusConf(text: string, mode: Mode): DaemonConf & Pick<IpamConf, "pool"> {
  const conf = parseObject(text);
  const own = mode === "flatnet" ? conf : asObject("ipam", conf["ipam"]);
  return { ...readDaemonConf(conf, mode), pool: asString("pool", own["pool"], "") };
}

/** What GC looks at. @throws CniError as parseDaemonConf, and 7 when the list is missing: that is not an empty list. */
export function parseGcConf(text: string, mode: Mode): GcConf {
  const conf = parseObject(text);
  return { ...readDaemonConf(conf, mode), validAttachments: parseValidAttachments(conf) };
}

/** What ADD and CHECK look at. @throws CniError as parseDaemonConf */
export function parsePluginConf(text: string): PluginConf {
  const conf = parseObject(text);
  const runtime = asObject("runtimeConfig", conf["runtimeConfig"]);
  return {
    ...readIpamConf(conf, conf, runtime, "flatnet"),
    mtu: parseMtu(conf["mtu"]),
    mac: present(runtime["mac"]) && runtime["mac"] !== "" ? parseMac("runtimeConfig.mac", runtime["mac"]) : undefined,
    portMappings: parsePortMappings(runtime["portMappings"]),
    bandwidth: present(runtime["bandwidth"]) ? parseBandwidth(runtime["bandwidth"]) : undefined,
    sysctls: parseSysctls(conf["sysctls"]),
  };
}

/**
 * The same of `flatnet-ipam`, which stands in another plugin's `ipam` section; the network's name and version stand above
 * it (CNI spec, section 4). @throws CniError as parseDaemonConf
 */
export function parseIpamConf(text: string): IpamConf {
  const conf = parseObject(text);
  const runtime = asObject("runtimeConfig", conf["runtimeConfig"]);
  return readIpamConf(conf, asObject("ipam", conf["ipam"]), runtime, "flatnet-ipam");
}

function readIpamConf(conf: Fields, own: Fields, runtime: Fields, mode: Mode): IpamConf {
  const daemon = readDaemonConf(conf, mode);
  return {
    ...daemon,
    requestedAddresses: parseRequestedAddresses(conf, runtime),
    aliases: parseAliases(runtime["aliases"], daemon.name),
    routes: asList("routes", own["routes"]).map(parseRoute),
    pool: asString("pool", own["pool"], ""),
    sticky: parseSticky(conf, own),
    dns: parseDns(conf, runtime),
    prevResult: present(conf["prevResult"])
      ? parseResult("prevResult", asObject("prevResult", conf["prevResult"]), daemon.cniVersion)
      : undefined,
  };
}

/** The cniVersion of a text that may be anything, to answer errors and VERSION in. */
export function versionIn(text: string, otherwise: string): string {
  try {
    const version = (JSON.parse(text) as { cniVersion?: unknown } | null)?.cniVersion;
    return typeof version === "string" && version !== "" ? version : otherwise;
  } catch {
    // Not JSON: whoever parses it for real says so.
    return otherwise;
  }
}

function parseObject(text: string): Fields {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    const got = text.trim() === "" ? "nothing" : JSON.stringify(text.length > 120 ? `${text.slice(0, 120)}…` : text);
    throw new CniError(
      CNI_CODES.decodingFailure,
      "the network configuration on stdin is not JSON",
      `got ${got}`,
      cause,
    );
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new CniError(CNI_CODES.decodingFailure, "the network configuration on stdin is not a JSON object");
  }
  return value as Fields;
}

function readDaemonConf(conf: Fields, mode: Mode): DaemonConf {
  const own = mode === "flatnet" ? conf : asObject("ipam", conf["ipam"]);
  const cniVersion = assertSupported(asString("cniVersion", conf["cniVersion"], VERSION_WHEN_ABSENT));
  const name = asString("name", conf["name"], "");
  if (!isIdentifier(name) || name.length > IDENTIFIER_MAX) {
    throw invalid("name", conf["name"], 'a network name of letters, digits, "_", "." and "-"');
  }
  const timeoutMs = asInteger("timeoutMs", own["timeoutMs"], DEFAULT_TIMEOUT_MS, 1, 600_000);
  return {
    cniVersion,
    name,
    socket: asPath("socket", own["socket"], DEFAULT_SOCKET, SOCKET_PATH_MAX),
    timeoutMs,
    connectWaitMs: asInteger(
      "connectWaitMs",
      own["connectWaitMs"],
      Math.min(DEFAULT_CONNECT_WAIT_MS, timeoutMs),
      0,
      timeoutMs,
    ),
    journalDir: asPath("journalDir", own["journalDir"], DEFAULT_JOURNAL_DIR, 3000),
  };
}

/** 0 or absent takes the daemon's. 68 is the least that IPv4 allows (RFC 791); IPv6 needs 1280 (RFC 8200, section 5). */
function parseMtu(value: unknown): number {
  const mtu = asInteger("mtu", value, 0, 0, 65_535);
  if (mtu !== 0 && mtu < 68) throw invalid("mtu", value, "0 or a whole number from 68 to 65535");
  return mtu;
}

/** Both places of CONVENTIONS.md: the `ips` capability and the older `args.cni.ips`, with or without prefix length. */
function parseRequestedAddresses(conf: Fields, runtime: Fields): string[] {
  const read = (field: string, value: unknown) =>
    asStrings(field, value).map((text, i) => {
      const at = `${field}.${i}`;
      return formatAddress(text.includes("/") ? asCidr(at, text).address : asAddress(at, text));
    });
  const args = asObject("args.cni", asObject("args", conf["args"])["cni"]);
  const wanted = present(runtime["ips"]) ? read("runtimeConfig.ips", runtime["ips"]) : [];
  return wanted.length > 0 ? wanted : read("args.cni.ips", args["ips"]);
}

/** A list (CONVENTIONS.md, aliases), or the lists of all networks by their names, which is how Podman and CRI-O write it. */
function parseAliases(value: unknown, network: string): string[] {
  const field = "runtimeConfig.aliases";
  if (Array.isArray(value) || !present(value)) return readAliases(field, value);
  if (typeof value !== "object") throw invalid(field, value, "a list");
  const lists = asObject(field, value);
  return Object.keys(lists).includes(network) ? readAliases(`${field}.${network}`, lists[network]) : [];
}

function readAliases(field: string, value: unknown): string[] {
  return asList(field, value, ALIASES_MAX).map((alias, i) => {
    if (typeof alias !== "string" || !isAlias(alias)) throw invalid(`${field}.${i}`, alias, ALIAS_RULE);
    return alias;
  });
}

/** `args.cni.owner` names an owner other than the pod; it says nothing in a network that isn't sticky. */
function parseSticky(conf: Fields, own: Fields): IpamConf["sticky"] {
  if (!present(own["sticky"])) return undefined;
  const { ttlSeconds } = asObject("sticky", own["sticky"]);
  const args = asObject("args.cni", asObject("args", conf["args"])["cni"]);
  return {
    // 0 is what it is when it is missing, and then too few.
    ttlSeconds: asInteger("sticky.ttlSeconds", ttlSeconds ?? 0, 0, 1, STICKY_SECONDS_MAX),
    owner: asString("args.cni.owner", args["owner"], ""),
  };
}

/** "02:42:ac:11:00:02", as in `ip link`. A group address can't be an interface's own (IEEE 802). */
function parseMac(field: string, value: unknown): Uint8Array {
  const parts = typeof value === "string" ? value.split(":") : [];
  const bytes = new Uint8Array(6);
  let good = parts.length === 6;
  for (let i = 0; good && i < 6; i++) {
    const part = parts[i] as string;
    const byte = Number.parseInt(part, 16);
    // parseInt() reads as far as it can; written back it is the same only when all of it was read.
    good = part.length === 2 && byte.toString(16).padStart(2, "0") === part.toLowerCase();
    bytes[i] = byte;
  }
  const zero = bytes.every((byte) => byte === 0);
  if (!good || zero || ((bytes[0] as number) & 1) === 1) throw invalid(field, value, "the MAC address of an interface");
  return bytes;
}

/** kubelet sends every port of the pod, with hostPort 0 where there is none: those are no mappings. */
function parsePortMappings(value: unknown): PortMapping[] {
  const mappings: PortMapping[] = [];
  for (const [i, item] of asList("runtimeConfig.portMappings", value).entries()) {
    const at = `runtimeConfig.portMappings.${i}`;
    const mapping = asCapability(at, item, ["hostPort", "containerPort", "protocol", "hostIP"]);
    const hostPort = asInteger(`${at}.hostPort`, mapping["hostPort"], 0, 0, 65_535);
    if (hostPort === 0) continue;
    const protocol = asString(`${at}.protocol`, mapping["protocol"], "tcp").toLowerCase();
    if (protocol !== "tcp" && protocol !== "udp" && protocol !== "sctp") {
      throw invalid(`${at}.protocol`, mapping["protocol"], "tcp, udp or sctp");
    }
    const hostIp = asString(`${at}.hostIP`, mapping["hostIP"], "");
    mappings.push({
      hostPort,
      containerPort: asInteger(`${at}.containerPort`, mapping["containerPort"], 0, 1, 65_535) || absent(at),
      protocol,
      hostIp: hostIp === "" ? "" : formatAddress(unmapped(asAddress(`${at}.hostIP`, hostIp))),
    });
  }
  return mappings;
}

/** An IPv4 address written as an IPv6 one (RFC 4291, section 2.5.5.2) is the IPv4 one, to the daemon too. */
function unmapped(address: Uint8Array): Uint8Array {
  const mapped = address.length === 16 && address.subarray(0, 12).every((byte, i) => byte === (i < 10 ? 0 : 0xff));
  return mapped ? address.subarray(12) : address;
}

function absent(at: string): never {
  throw invalid(`${at}.containerPort`, undefined, "a whole number from 1 to 65535");
}

function parseRoute(value: unknown, i: number): RouteConf {
  const at = `routes.${i}`;
  const route = asObject(at, value);
  const { address, length } = asCidr(`${at}.dst`, route["dst"]);
  if (hasHostBits(address, length))
    throw invalid(`${at}.dst`, route["dst"], "a network: bits behind its length are set");
  const gateway = present(route["gw"]) && route["gw"] !== "" ? asAddress(`${at}.gw`, route["gw"]) : undefined;
  if (gateway !== undefined && gateway.length !== address.length) {
    throw invalid(`${at}.gw`, route["gw"], `an address of the family of ${String(route["dst"])}`);
  }
  const number = (key: string, most: number) =>
    present(route[key]) ? asInteger(`${at}.${key}`, route[key], 0, 0, most) : undefined;
  return {
    destination: address,
    length,
    gateway,
    mtu: number("mtu", 65_535),
    advmss: number("advmss", 65_535),
    priority: number("priority", U32),
    table: number("table", U32),
    scope: number("scope", MOST_SCOPE),
  };
}

/** The kernel refuses such an IPv4 route, and makes another one of an IPv6 one. */
function hasHostBits(address: Uint8Array, length: number): boolean {
  return address.some((byte, i) => (byte & (0xff >> Math.min(8, Math.max(0, length - i * 8)))) !== 0);
}

/** What a pod's namespace has for itself. Anything else would be the node's. */
const SYSCTL_ROOTS = ["net.ipv4.", "net.ipv6.", "net.core.", "net.unix.", "net.netfilter."];

function parseSysctls(value: unknown): Map<string, string> {
  const sysctls = new Map<string, string>();
  const fields = asObject("sysctls", value);
  for (const name in fields) {
    const allowed = SYSCTL_ROOTS.some((root) => name.startsWith(root)) && isSysctlName(name);
    if (!allowed) throw invalid("sysctls", name, `a sysctl of a pod's own: ${SYSCTL_ROOTS.join("*, ")}*`);
    const text = fields[name];
    if (typeof text !== "string" || text.trim() === "" || text.length > 256)
      throw invalid(`sysctls.${name}`, text, "a short string");
    sysctls.set(name, text);
  }
  return sysctls;
}

/** Letters, digits, "_", "-" between single dots, so that the name can't leave /proc/sys/net as a path. */
function isSysctlName(name: string): boolean {
  for (const part of name.split(".")) if (!isIdentifier(part) || part.includes(".")) return false;
  return true;
}

/** The configuration's own `dns`, over which the runtime's goes (CONVENTIONS.md: searches, servers, options). */
function parseDns(conf: Fields, runtime: Fields): Dns {
  const own = asObject("dns", conf["dns"]);
  const given = asCapability("runtimeConfig.dns", runtime["dns"], ["servers", "searches", "options"]);
  const pick = (name: string, ownKey: string, key: string) => {
    const first = asStrings(`runtimeConfig.dns.${key}`, given[key]);
    const list = first.length > 0 ? first : asStrings(`dns.${ownKey}`, own[ownKey]);
    return list.length > 0 ? { [name]: list } : {};
  };
  const domain = asString("dns.domain", own["domain"], "");
  return {
    ...pick("nameservers", "nameservers", "servers"),
    ...(domain === "" ? {} : { domain }),
    ...pick("search", "search", "searches"),
    ...pick("options", "options", "options"),
  };
}

/** GC's list: `cni.dev/valid-attachments`, or `cni.dev/attachments` as the 1.1.0 tag calls it in one place. */
function parseValidAttachments(conf: Fields): Set<string> {
  const key = present(conf["cni.dev/valid-attachments"]) ? "cni.dev/valid-attachments" : "cni.dev/attachments";
  if (!present(conf[key])) {
    throw invalid("cni.dev/valid-attachments", undefined, "the list of attachments to keep; an empty one frees all");
  }
  const valid = new Set<string>();
  for (const [i, item] of asList(key, conf[key], 65_536).entries()) {
    const attachment = asObject(`${key}.${i}`, item);
    const containerId = asString(`${key}.${i}.containerID`, attachment["containerID"], "");
    const ifname = asString(`${key}.${i}.ifname`, attachment["ifname"], "");
    if (containerId === "" || ifname === "")
      throw invalid(`${key}.${i}`, item, "an object with containerID and ifname");
    valid.add(`${containerId}/${ifname}`);
  }
  return valid;
}

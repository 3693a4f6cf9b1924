// SPDX-License-Identifier: Apache-2.0
//
// What a runtime's libcni remembers of the attachments it made (libcni/api.go, cachedInfo): host-local's files don't say
// which pod a container is of, nor where its namespace is; these do. Everything in them is optional help.
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Pod } from "../gen/flatnet/ipam/v1/ipam.ts";

export interface CachedAttachment {
  readonly pod: Pod | undefined;
  /** "" when it isn't told. */
  readonly netns: string;
  /** Whether it was given ports of the node, which are another plugin's to take away. */
  readonly hasHostPorts: boolean;
}

const UNKNOWN: CachedAttachment = { pod: undefined, netns: "", hasHostPorts: false };

/** @param directory libcni's cache directory, /var/lib/cni by default */
export async function readCachedAttachment(
  directory: string,
  network: string,
  { containerId, ifname }: { containerId: string; ifname: string },
): Promise<CachedAttachment> {
  const text = await readFile(join(directory, "results", `${network}-${containerId}-${ifname}`), "utf8").catch(
    () => "",
  );
  return parseCachedAttachment(text, ifname);
}

/** What the file says, as far as it says anything. Pure. */
export function parseCachedAttachment(text: string, ifname: string): CachedAttachment {
  let cached: unknown;
  try {
    cached = JSON.parse(text);
  } catch {
    // No cache, a torn one, or somebody else's: nothing is known then.
    return UNKNOWN;
  }
  if (!isObject(cached) || cached["kind"] !== "cniCacheV1") return UNKNOWN;
  const ports = isObject(cached["capabilityArgs"]) ? cached["capabilityArgs"]["portMappings"] : undefined;
  const named = cached["netns"];
  return {
    pod: podOf(cached["cniArgs"]),
    // libcni 1.2 began to write it down; before, the result's interface has it.
    netns: typeof named === "string" && named !== "" ? named : sandboxOf(cached["result"], ifname),
    hasHostPorts: Array.isArray(ports) && ports.length > 0,
  };
}

/** An attachment that a runtime has made with flatnet and not yet deleted, as far as it remembers. */
export interface AwaitedDel {
  readonly containerId: string;
  readonly pod: Pod | undefined;
  readonly netns: string;
}

/**
 * Every attachment that a runtime may still call flatnet for: it forgets one when its DEL was a success.
 * @param directory libcni's cache directory; none when it isn't there
 */
export async function readAwaitedDels(directory: string): Promise<AwaitedDel[]> {
  const results = join(directory, "results");
  let names: string[];
  try {
    names = (await readdir(results)).sort();
  } catch {
    // No libcni has been here, or the cache is somewhere else: what is told then is what the kernel has.
    return [];
  }
  const awaited: AwaitedDel[] = [];
  for (const name of names) {
    const found = parseAwaitedDel(await readFile(join(results, name), "utf8").catch(() => ""));
    if (found !== undefined) awaited.push(found);
  }
  return awaited;
}

/** What a file of the cache says, when it is of an attachment whose network calls flatnet. Pure. */
export function parseAwaitedDel(text: string): AwaitedDel | undefined {
  let cached: unknown;
  try {
    cached = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isObject(cached) || !callsFlatnet(cached["config"])) return undefined;
  const { containerId, ifName } = cached;
  const { pod, netns } = parseCachedAttachment(text, isString(ifName) ? ifName : "");
  return { containerId: isString(containerId) ? containerId : "", pod, netns };
}

/** The configuration that the attachment was made with, in base64 as Go writes bytes. */
function callsFlatnet(config: unknown): boolean {
  if (!isString(config)) return false;
  try {
    const list: unknown = JSON.parse(Buffer.from(config, "base64").toString("utf8"));
    if (!isObject(list)) return false;
    const plugins = Array.isArray(list["plugins"]) ? list["plugins"] : [list];
    return plugins.some(
      (plugin) =>
        isObject(plugin) &&
        (plugin["type"] === "flatnet" || (isObject(plugin["ipam"]) && plugin["ipam"]["type"] === "flatnet-ipam")),
    );
  } catch {
    return false;
  }
}

function podOf(args: unknown): Pod | undefined {
  if (!Array.isArray(args)) return undefined;
  const pairs = args.filter((pair): pair is [string, string] => Array.isArray(pair) && pair.every(isString));
  const values = new Map(pairs);
  const namespace = values.get("K8S_POD_NAMESPACE");
  const name = values.get("K8S_POD_NAME");
  if (namespace === undefined || name === undefined) return undefined;
  return { namespace, name, uid: values.get("K8S_POD_UID") ?? "" };
}

function sandboxOf(result: unknown, ifname: string): string {
  const interfaces = isObject(result) ? result["interfaces"] : undefined;
  if (!Array.isArray(interfaces)) return "";
  const own = interfaces.find((one: unknown) => isObject(one) && one["name"] === ifname && one["sandbox"]);
  return isObject(own) && isString(own["sandbox"]) ? own["sandbox"] : "";
}

function isString(value: unknown): value is string {
  return typeof value === "string";
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

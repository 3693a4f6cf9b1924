// SPDX-License-Identifier: Apache-2.0
//
// The command line of `flatnetctl lab`.
import { LabError } from "./errors.ts";

export type LabFamily = "v4" | "v6" | "dual";

/**
 * How the nodes are joined: by one link; by a router between two links that has routes to the pods' subnets, as a cloud's
 * has; or by one that learns them from the nodes.
 */
export const UNDERLAYS = ["l2", "routed", "bgp"] as const;
export type LabUnderlay = (typeof UNDERLAYS)[number];

export type LabCommand =
  | {
      readonly kind: "up";
      readonly name: string;
      readonly nodes: number;
      readonly pods: number;
      readonly family: LabFamily;
      readonly underlay: LabUnderlay;
      readonly keep: boolean;
      readonly json: boolean;
    }
  | { readonly kind: "prove"; readonly name: string; readonly json: boolean }
  | { readonly kind: "down"; readonly name: string }
  | { readonly kind: "help" };

/** Most nodes of a lab. */
export const MAX_NODES = 50;
/** Most pods of a node; a node's /24 holds 254. */
export const MAX_PODS_PER_NODE = 200;
/** Most pods of a lab: each has a process of about 25 MB in it. */
export const MAX_PODS = 250;
/** Longest name, so that namespace names and socket paths (107 bytes, unix(7)) stay within their limits. */
export const MAX_NAME = 24;

export const LAB_USAGE = `flatnetctl lab: a cluster of network namespaces on this machine, and a proof that its network is flat

  flatnetctl lab [up] [options]   make it, prove it, remove it
      --nodes N                   nodes, 1 to ${MAX_NODES} (3)
      --pods M                    pods on each node, 1 to ${MAX_PODS_PER_NODE}, ${MAX_PODS} in all (4)
      --family v4|v6|dual         address families (dual)
      --topology l2|routed|bgp    nodes on one link; on two, with a router between them that is given the routes to pods,
                                  as a cloud's; or with one that learns them by BGP, which needs Debian's bird2 (l2)
      --keep                      leave it up and say how to look around
      --json                      one JSON document on stdout
      --name NAME                 labs of different names can be up together (lab)
  flatnetctl lab prove [--name NAME] [--json]   prove a kept lab again
  flatnetctl lab down [--name NAME]             remove a kept lab, or what a killed one left

Exit code: 0 flat, 1 not flat or failed, 2 wrong options.
`;

type Option = "nodes" | "pods" | "family" | "topology" | "keep" | "json" | "name";

const OPTIONS: Record<"up" | "prove" | "down", readonly Option[]> = {
  up: ["nodes", "pods", "family", "topology", "keep", "json", "name"],
  prove: ["name", "json"],
  down: ["name"],
};

/**
 * What the words after `flatnetctl lab` ask for.
 * @throws LabError LAB_USAGE, naming the option and its value.
 */
export function parseLabArgs(args: readonly string[]): LabCommand {
  const words = [...args];
  let kind: keyof typeof OPTIONS = "up";
  const first = words[0];
  if (first !== undefined && !first.startsWith("-")) {
    if (first !== "up" && first !== "prove" && first !== "down") {
      throw usage(`${JSON.stringify(first)} is not a lab command; there are up, prove and down`);
    }
    kind = first;
    words.shift();
  }
  const given = new Map<Option, string>();
  while (words.length > 0) {
    const word = words.shift() as string;
    if (word === "--help" || word === "-h") return { kind: "help" };
    const equals = word.indexOf("=");
    const key = equals < 0 ? word : word.slice(0, equals);
    const option = OPTIONS[kind].find((name) => `--${name}` === key);
    if (option === undefined) throw usage(`lab ${kind} has no option ${JSON.stringify(key)}`);
    if (given.has(option)) throw usage(`--${option} is given twice`);
    if (option === "keep" || option === "json") {
      if (equals >= 0) throw usage(`--${option} takes no value`);
      given.set(option, "");
      continue;
    }
    const value = equals < 0 ? words.shift() : word.slice(equals + 1);
    if (value === undefined || value === "") throw usage(`--${option} needs a value`);
    given.set(option, value);
  }
  const name = parseName(given.get("name") ?? "lab");
  const json = given.has("json");
  if (kind === "down") return { kind, name };
  if (kind === "prove") return { kind, name, json };
  const nodes = parseCount("nodes", given.get("nodes") ?? "3", MAX_NODES);
  const pods = parseCount("pods", given.get("pods") ?? "4", MAX_PODS_PER_NODE);
  if (nodes * pods > MAX_PODS) {
    throw usage(`--nodes ${nodes} and --pods ${pods} make ${nodes * pods} pods; a lab has at most ${MAX_PODS}`);
  }
  const family = given.get("family") ?? "dual";
  if (family !== "v4" && family !== "v6" && family !== "dual") {
    throw usage(`--family is v4, v6 or dual, not ${JSON.stringify(family)}`);
  }
  const topology = given.get("topology") ?? "l2";
  const underlay = UNDERLAYS.find((known) => known === topology);
  if (underlay === undefined) throw usage(`--topology is l2, routed or bgp, not ${JSON.stringify(topology)}`);
  return { kind, name, nodes, pods, family, underlay, keep: given.has("keep"), json };
}

function parseCount(option: Option, text: string, most: number): number {
  const value = /^\d{1,4}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= 1 && value <= most)) {
    throw usage(`--${option} is a number from 1 to ${most}, not ${JSON.stringify(text)}`);
  }
  return value;
}

function parseName(text: string): string {
  if (text.length > MAX_NAME || !/^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/.test(text)) {
    throw usage(
      `--name is ${MAX_NAME} or fewer lower-case letters, digits and inner hyphens, not ${JSON.stringify(text)}`,
    );
  }
  return text;
}

function usage(message: string): LabError {
  return new LabError("LAB_USAGE", message);
}

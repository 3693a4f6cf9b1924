// SPDX-License-Identifier: Apache-2.0
//
// The built plugin, run as a container runtime runs it: a verb and its parameters in the environment, the configuration on
// stdin, one JSON document on stdout (CNI spec, section 3).

import { existsSync } from "node:fs";
import { type Cleanup, CommandError, type Finished, runToEnd } from "./daemon.ts";
import { createNetns, inNetns, type Netns } from "./netns.ts";

/** A program of `npm run build`. */
export function built(name: string): string {
  const path = new URL(`../../dist/${name}`, import.meta.url).pathname;
  if (!existsSync(path)) throw new CommandError(`dist/${name} is missing: run \`npm run build\` first`);
  return path;
}

/** What a runtime sets for a verb. Without `PATH` some programs can't be found; the plugin must need none. */
export type CniEnvironment = Record<string, string>;

/** One pod as its runtime knows it. */
export interface Pod {
  readonly containerId: string;
  readonly netns: Netns;
}

/** A pod's namespace with a container ID of its own. `cleanup` removes the namespace, not what a plugin made elsewhere. */
export async function createPod(label: string, cleanup: Cleanup): Promise<Pod> {
  const netns = await createNetns(label, cleanup);
  return { containerId: `${netns.name}-container`, netns };
}

export function cniEnvironment(verb: string, pod: Pod): CniEnvironment {
  return {
    CNI_COMMAND: verb,
    CNI_CONTAINERID: pod.containerId,
    CNI_NETNS: pod.netns.path,
    CNI_IFNAME: "eth0",
    CNI_PATH: "/opt/cni/bin",
    CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=tests;K8S_POD_NAME=${pod.netns.name};K8S_POD_UID=uid-${pod.netns.name}`,
  };
}

/** The command line of the plugin in the network namespace of a node. */
export function pluginCommand(node: Netns, plugin = built("flatnet")): string[] {
  return inNetns(node.path, plugin);
}

/** Runs the plugin in a node's namespace to its end. */
export function runPlugin(node: Netns, env: CniEnvironment, stdin: string, plugin?: string): Promise<Finished> {
  return runToEnd(pluginCommand(node, plugin), { env, input: stdin });
}

/** ADD's result, as far as every version has it. */
export interface CniResult {
  readonly cniVersion: string;
  readonly interfaces: readonly { name: string; mac: string; sandbox?: string; mtu?: number }[];
  readonly ips: readonly { address: string; gateway: string; interface: number; version?: string }[];
  readonly routes: readonly { dst: string; gw: string }[];
  readonly dns: object;
}

/** What the plugin says when it fails (CNI spec, section 5, "Error"). */
export interface CniFailure {
  readonly cniVersion: string;
  readonly code: number;
  readonly msg: string;
  readonly details?: string;
}

/** The one document on stdout of a run that succeeded. */
export function resultOf(finished: Finished): CniResult {
  if (finished.status !== 0) {
    throw new CommandError(`the plugin failed: ${finished.status}\n${finished.stdout}${finished.stderr}`);
  }
  return JSON.parse(finished.stdout);
}

/** The one document on stdout of a run that failed. */
export function failureOf(finished: Finished): CniFailure {
  if (finished.status === 0) throw new CommandError(`the plugin did not fail: ${finished.stdout}`);
  return JSON.parse(finished.stdout);
}

/** The addresses of a result without their lengths, IPv4 first. */
export function addressesOf(result: CniResult): string[] {
  return result.ips.map(({ address }) => address.replace(/\/\d+$/, ""));
}

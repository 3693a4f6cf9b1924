// SPDX-License-Identifier: Apache-2.0
//
// Pods get their network as from a container runtime: the real plugin, with the environment and the configuration on stdin
// that the CNI spec (section 3) prescribes, run in the node's namespace.
import { dirname, join } from "node:path";
import { formatAddress, parseAddress } from "../net/address.ts";
import { LabError } from "./errors.ts";
import type { RunResult } from "./host-protocol.ts";
import { nodePaths } from "./state.ts";
import { NETNS_DIR } from "./sweep.ts";
import type { LabNode, LabPod, Topology } from "./topology.ts";

/** Longer than the plugin's own deadline, so that its error is the one that is seen. */
const PLUGIN_TIMEOUT_MS = 30_000;

export interface PluginRun {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly stdin: string;
  readonly timeoutMs: number;
}

/** How a runtime would call the plugin at this path for the pod. */
export function pluginRun(
  verb: "ADD" | "DEL",
  plugin: string,
  topology: Topology,
  node: LabNode,
  pod: LabPod,
): PluginRun {
  const paths = nodePaths(topology.name, node.name);
  return {
    command: plugin,
    args: [],
    env: {
      PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      CNI_COMMAND: verb,
      CNI_CONTAINERID: pod.containerId,
      CNI_NETNS: join(NETNS_DIR, pod.namespace),
      CNI_IFNAME: "eth0",
      CNI_PATH: dirname(plugin),
      CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=lab;K8S_POD_NAME=${pod.name};K8S_POD_INFRA_CONTAINER_ID=${pod.containerId};K8S_POD_UID=${pod.uid}`,
    },
    stdin: JSON.stringify({
      cniVersion: "1.1.0",
      name: "flatnet",
      type: "flatnet",
      socket: paths.socket,
      journalDir: paths.journalDir,
    }),
    timeoutMs: PLUGIN_TIMEOUT_MS,
  };
}

/**
 * The addresses of ADD's result, IPv4 first.
 * @throws LabError LAB_ATTACH_FAILED with what the plugin said.
 */
export function addedAddresses(pod: string, result: RunResult): string[] {
  if (result.code !== 0) throw pluginFailed("ADD", pod, result);
  try {
    const { ips } = JSON.parse(result.stdout) as { ips: { address: string }[] };
    const addresses = ips.map(({ address }) => formatAddress(parseAddress(address.replace(/\/\d+$/, ""))));
    return addresses.sort((a, b) => Number(a.includes(":")) - Number(b.includes(":")));
  } catch (cause) {
    throw new LabError("LAB_ATTACH_FAILED", `ADD of ${pod} printed no CNI result`, {
      cause,
      detail: [result.stdout.slice(0, 1000)],
    });
  }
}

/** What a failed run of the plugin says: the CNI error's code and text, or else its output. */
export function pluginFailed(verb: "ADD" | "DEL", pod: string, result: RunResult): LabError {
  let said = `exit code ${result.code}`;
  try {
    const error = JSON.parse(result.stdout) as { code: number; msg: string; details?: string };
    said = `code ${error.code}: ${error.msg}${error.details ? `: ${error.details}` : ""}`;
  } catch {
    if (result.stdout.trim() !== "") said += `: ${result.stdout.trim().slice(0, 500)}`;
  }
  const detail = result.stderr.trim() === "" ? [] : result.stderr.trim().split("\n").slice(-5);
  return new LabError("LAB_ATTACH_FAILED", `${verb} of ${pod} failed: ${said}`, { detail });
}

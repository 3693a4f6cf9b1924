// SPDX-License-Identifier: Apache-2.0
//
// The two that are compared: what a runtime runs for a pod with flatnet, and with Debian's reference plugins.
import { join } from "node:path";
import { pluginPath } from "../test/helpers/chain.ts";
import { built, cniEnvironment, type Pod } from "../test/helpers/plugin.ts";
import type { Operation, Step } from "./operation.ts";

/** What a pod asks for besides an address. */
export interface Wishes {
  /** One hostPort and one bandwidth limit. */
  readonly portAndLimit?: { readonly hostPort: number };
}

export interface Side {
  readonly name: string;
  /** The operation of a verb for a pod. CHECK and DEL take what ADD printed, as runtimes keep it. */
  operation(verb: string, pod: Pod, wishes?: Wishes, result?: object): Operation;
}

/** The newest version that Debian's plugins know. */
const CNI_VERSION = "1.0.0";

const LIMIT = { ingressRate: 100_000_000, ingressBurst: 8_000_000, egressRate: 100_000_000, egressBurst: 8_000_000 };

function capabilities({ portAndLimit }: Wishes) {
  if (portAndLimit === undefined) return undefined;
  const portMappings = [{ hostPort: portAndLimit.hostPort, containerPort: 80, protocol: "tcp" }];
  return { portMappings, bandwidth: LIMIT };
}

/** flatnet in `dist/`, with the daemon on `socket`. */
export function flatnetSide(socket: string, journalDir: string): Side {
  const plugin = built("flatnet");
  return {
    name: "flatnet",
    operation: (verb, pod, wishes = {}, result) => {
      const runtimeConfig = capabilities(wishes);
      const cniVersion = verb === "STATUS" || verb === "GC" ? "1.1.0" : CNI_VERSION;
      const conf = { cniVersion, name: "bench", type: "flatnet", socket, journalDir };
      const env = cniEnvironment(verb, pod);
      const step = { argv: [plugin], env, conf: runtimeConfig === undefined ? conf : { ...conf, runtimeConfig } };
      return result === undefined ? { steps: [step] } : { steps: [step], prevResult: result };
    },
  };
}

/** ptp with host-local, and portmap and bandwidth behind it where a pod asks for what they do. */
export function referenceSide(subnets: readonly string[], directory: string): Side {
  const ranges = subnets.map((subnet) => [{ subnet }]);
  const routes = subnets.map((subnet) => ({ dst: subnet.includes(":") ? "::/0" : "0.0.0.0/0" }));
  const ipam = { type: "host-local", ranges, routes, dataDir: join(directory, "host-local") };
  return {
    name: "ptp + host-local",
    operation: (verb, pod, wishes = {}, result) => {
      const wanted = capabilities(wishes);
      const base = { cniVersion: CNI_VERSION, name: "bench-reference" };
      const env = {
        ...cniEnvironment(verb, pod),
        CNI_PATH: "/usr/lib/cni:/opt/cni/bin",
        PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
      };
      const step = (type: string, more: object): Step => ({
        argv: [pluginPath(type)],
        env,
        conf: { ...base, type, ...more },
      });
      const steps = [step("ptp", { ipam })];
      if (wanted !== undefined) {
        const { portMappings, bandwidth } = wanted;
        steps.push(step("portmap", { snat: true, runtimeConfig: { portMappings } }));
        steps.push(step("bandwidth", { runtimeConfig: { bandwidth } }));
      }
      if (verb === "DEL") steps.reverse();
      return result === undefined ? { steps } : { steps, prevResult: result };
    },
  };
}

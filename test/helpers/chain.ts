// SPDX-License-Identifier: Apache-2.0
//
// A conflist driven as libcni drives it (CNI spec, section 3): ADD in order, each plugin given the result of the one
// before; CHECK in order and DEL in reverse, all given the last result; capabilities as runtimeConfig to whoever declares
// them. Any plugin will do: ours from dist/, the reference plugins from Debian.

import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { CommandError, type Finished, runToEnd } from "./daemon.ts";
import { inNetns, type Netns } from "./netns.ts";
import { built, type CniEnvironment, type CniResult, cniEnvironment, type Pod, resultOf } from "./plugin.ts";

/** Where Debian and upstream's release put the reference plugins. */
const REFERENCE = ["/usr/lib/cni", "/opt/cni/bin"];

/** The path of a plugin by its CNI type: one of ours, or a reference plugin. */
export function pluginPath(type: string): string {
  if (type.startsWith("flatnet")) return built(type);
  const path = REFERENCE.map((directory) => `${directory}/${type}`).find((candidate) => existsSync(candidate));
  if (path === undefined) throw new CommandError(`the plugin ${type} is missing: install containernetworking-plugins`);
  return path;
}

/** Whether a command that some reference plugins run can be found. */
export function hasCommand(name: string): boolean {
  return ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].some((directory) => existsSync(`${directory}/${name}`));
}

/** One plugin of a list, with everything that stands beside `type`. */
export type PluginEntry = { readonly type: string; readonly capabilities?: Record<string, boolean> } & Record<
  string,
  unknown
>;

/** What a runtime derives for one call. */
export interface CallOptions {
  readonly env?: CniEnvironment;
  /** `runtimeConfig`, by capability. */
  readonly capabilities?: Record<string, unknown>;
  /** `args.cni` and its like. */
  readonly args?: object;
}

export class Chain {
  readonly #node: Netns;
  readonly #list: { readonly cniVersion: string; readonly name: string; readonly plugins: readonly PluginEntry[] };
  /** By container and interface, as a runtime's cache has it. */
  readonly #results = new Map<string, CniResult>();

  constructor(node: Netns, cniVersion: string, name: string, plugins: readonly PluginEntry[]) {
    this.#node = node;
    this.#list = { cniVersion, name, plugins };
  }

  /** The last plugin's result. @throws CommandError with what the plugin said that failed */
  async add(pod: Pod, options: CallOptions = {}): Promise<CniResult> {
    let result: CniResult | undefined;
    for (const plugin of this.#list.plugins) {
      result = resultOf(await this.#run(plugin, "ADD", pod, options, result));
    }
    if (result === undefined) throw new CommandError("the list has no plugin");
    this.#results.set(key(pod, options), result);
    return result;
  }

  /** How each plugin's CHECK ended, in order; a runtime would stop at the first that fails. */
  async check(pod: Pod, options: CallOptions = {}): Promise<Finished[]> {
    const finished: Finished[] = [];
    for (const plugin of this.#list.plugins)
      finished.push(await this.#run(plugin, "CHECK", pod, options, this.#known(pod, options)));
    return finished;
  }

  /** How each plugin's DEL ended, in the order of the list, though they are run in reverse. */
  async del(pod: Pod, options: CallOptions = {}): Promise<Finished[]> {
    const finished: Finished[] = [];
    for (const plugin of this.#list.plugins.toReversed()) {
      finished.unshift(await this.#run(plugin, "DEL", pod, options, this.#known(pod, options)));
    }
    this.#results.delete(key(pod, options));
    return finished;
  }

  /** Runs one plugin alone with the configuration it would get. */
  #run(
    { capabilities = {}, ...plugin }: PluginEntry,
    verb: string,
    pod: Pod,
    options: CallOptions,
    prevResult: CniResult | undefined,
  ): Promise<Finished> {
    const { cniVersion, name } = this.#list;
    const runtimeConfig = Object.fromEntries(
      Object.entries(options.capabilities ?? {}).filter(([capability]) => capabilities[capability] === true),
    );
    const conf = {
      cniVersion,
      name,
      ...plugin,
      ...(Object.keys(runtimeConfig).length > 0 && { runtimeConfig }),
      ...(options.args !== undefined && { args: options.args }),
      ...(prevResult !== undefined && { prevResult }),
    };
    // The reference plugins look for iptables and for the plugins they delegate to.
    const env = {
      ...cniEnvironment(verb, pod),
      CNI_PATH: [dirname(built("flatnet")), ...REFERENCE].join(":"),
      PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
      ...options.env,
    };
    return runToEnd(inNetns(this.#node.path, pluginPath(plugin.type)), { env, input: JSON.stringify(conf) });
  }

  #known(pod: Pod, options: CallOptions): CniResult | undefined {
    return this.#results.get(key(pod, options));
  }
}

function key({ containerId }: Pod, { env }: CallOptions): string {
  return `${containerId}/${env?.["CNI_IFNAME"] ?? "eth0"}`;
}

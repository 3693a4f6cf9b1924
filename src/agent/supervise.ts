// SPDX-License-Identifier: Apache-2.0
//
// The daemon's life in Kubernetes: an agent serves the subnets that this node has, and is followed by another one in this
// process when it has others. What is known of Kubernetes outlives the agents, and so do routes, rules and pods' links.
import { layOut } from "../ipam/layout.ts";
import { formatPrefix, type Prefix } from "../net/prefix.ts";
import type { Agent } from "./agent.ts";
import type { Config } from "./config.ts";
import { areSameSubnets } from "./kubernetes-node.ts";
import type { Log } from "./log.ts";
import type { OwnNode } from "./own-node.ts";
import { rulesOf } from "./own-rules.ts";

export interface SuperviseOptions {
  readonly config: Config;
  readonly own: Pick<OwnNode, "node" | "waitsFor" | "subscribe">;
  /** Starts an agent for a configuration with subnets. */
  readonly start: (config: Config) => Promise<Agent>;
  /** Resolves when it is time to end. */
  readonly ended: Promise<unknown>;
  readonly log: Log;
}

/**
 * Runs agents until it is time to end.
 * @throws whatever an agent can't start for; IpamError when the first subnets don't fit the rules
 */
export async function supervise({ config, own, start, ended, log }: SuperviseOptions): Promise<void> {
  const follower = new Follower(own, ended);
  try {
    let fitted = await firstSubnets(config, own, follower, log);
    while (fitted !== undefined) {
      const agent = await start(fitted);
      fitted = await nextSubnets(config, fitted.podCIDRs, own, follower, log);
      if (fitted !== undefined) {
        const podCIDRs = fitted.podCIDRs.map(formatPrefix);
        log.warn({ podCIDRs }, "this node has other subnets; pods that are here keep their addresses");
      }
      await agent.stop();
    }
  } finally {
    follower.close();
  }
}

/** Waits until this node's subnets are known. @returns undefined when it is time to end */
async function firstSubnets(
  config: Config,
  own: SuperviseOptions["own"],
  follower: Follower,
  log: Log,
): Promise<Config | undefined> {
  let told = "";
  for (;;) {
    const podCIDRs = own.node?.podCIDRs;
    if (podCIDRs !== undefined) return configFor(podCIDRs, config);
    const why = own.waitsFor;
    if (why !== told) log.warn({ why }, "waiting for this node's subnets; no pod can start before");
    told = why;
    if ((await follower.news()) === "ended") return undefined;
  }
}

/** Waits until this node's subnets are others. @returns undefined when it is time to end */
async function nextSubnets(
  config: Config,
  current: readonly Prefix[],
  own: SuperviseOptions["own"],
  follower: Follower,
  log: Log,
): Promise<Config | undefined> {
  let judged = current;
  for (;;) {
    const podCIDRs = own.node?.podCIDRs ?? current;
    if (!areSameSubnets(podCIDRs, judged)) {
      judged = podCIDRs;
      if (areSameSubnets(podCIDRs, current)) continue;
      try {
        return configFor(podCIDRs, config);
      } catch (err) {
        // Better the subnets that it had than a node without any.
        log.error({ err, podCIDRs: podCIDRs.map(formatPrefix) }, "this node has other subnets, which can't be used");
      }
    }
    if ((await follower.news()) === "ended") return undefined;
  }
}

/** @throws IpamError when the rules don't fit the subnets */
function configFor(podCIDRs: readonly Prefix[], config: Config): Config {
  const rules = rulesOf(podCIDRs, config.rules);
  layOut(podCIDRs, rules);
  return { ...config, podCIDRs, rules };
}

/** Waits for what happens next. News that came while nobody waited are told to whoever waits next. */
class Follower {
  readonly #ended: Promise<"ended">;
  readonly #following: { close(): void };
  #changed = Promise.withResolvers<"changed">();

  constructor(own: SuperviseOptions["own"], ended: Promise<unknown>) {
    this.#ended = ended.then(() => "ended");
    this.#following = own.subscribe(() => this.#changed.resolve("changed"));
  }

  async news(): Promise<"ended" | "changed"> {
    const news = await Promise.race([this.#ended, this.#changed.promise]);
    if (news === "changed") this.#changed = Promise.withResolvers();
    return news;
  }

  close(): void {
    this.#following.close();
  }
}

// SPDX-License-Identifier: Apache-2.0
import { NETLINK_NETFILTER, Netlink } from "../netlink/event-loop.ts";
import { removeTable } from "../nft/table.ts";
import { Transactor } from "../nft/transactor.ts";
import { POLICY_TABLE } from "../policy/ruleset.ts";
import { ListeningSocket, sys, writeAside } from "../sys/node.ts";
import type { Closer } from "./closer.ts";
import type { ClusterLife } from "./cluster-life.ts";
import type { Config } from "./config.ts";
import type { Kubernetes } from "./kubernetes.ts";
import type { Log } from "./log.ts";
import type { PolicyKeeper, PolicyKeeperOptions } from "./policy-keeper.ts";
import { SPREAD_MS } from "./troubles.ts";

/** Bytes of the receive buffer for samples of denied packets. */
const LOG_BUFFER = 256 * 1024;

/**
 * What enforces network policies; it changes nothing before it is started. Where they aren't to be enforced, rules of an earlier
 * configuration are taken away, and there is none.
 * @throws PolicyError, NetlinkError
 */
export async function openPolicy(
  config: Config,
  kubernetes: Kubernetes | undefined,
  cluster: ClusterLife | undefined,
  onEnforced: NonNullable<PolicyKeeperOptions["onEnforced"]>,
  log: Log,
  closers: Closer[],
): Promise<PolicyKeeper | undefined> {
  const transactor = Transactor.open(sys, writeAside);
  closers.push(() => transactor.close());
  const objects = kubernetes?.policyObjects;
  if (objects === undefined || cluster === undefined) {
    await transactor.transaction(removeTable(POLICY_TABLE));
    return undefined;
  }
  const netlink = Netlink.open(NETLINK_NETFILTER);
  closers.push(() => netlink.close());
  // Loaded only where there are policies.
  const { PolicyKeeper } = await import("./policy-keeper.ts");
  const keeper = await PolicyKeeper.open({
    kernel: { netlink, transactor },
    objects,
    settings: config.policy,
    findPod: (pod) => cluster.pods.find(pod),
    openLogSocket: () => ListeningSocket.open(NETLINK_NETFILTER, [], LOG_BUFFER, "here"),
    onEnforced,
    onFaulty: (kind, policy) => cluster.tellFaulty(kind, policy),
    spreadMs: () => cluster.nodeCount * SPREAD_MS,
    log,
  });
  closers.push(() => keeper.stop());
  return keeper;
}

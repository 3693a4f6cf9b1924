// SPDX-License-Identifier: Apache-2.0
//
// The clusters of the policy tests as the model takes them, and what all of their nodes together do with a flow.
import type { Flow, PolicyObject, TestCluster, TestPod } from "../../../test/helpers/policy/evaluator.ts";
import type { ClusterNetworkPolicy } from "../../kube/cluster-network-policy.ts";
import type { NetworkPolicy } from "../../kube/network-policy.ts";
import type { KubePod, NamedPort } from "../../kube/objects.ts";
import { parseNetworkPolicy } from "../../kube/parse-network-policy.ts";
import { parseAddress } from "../../net/address.ts";
import { type ClusterState, compile } from "../compile.ts";
import { Interpreter, type Packet } from "../interpret.ts";
import type { LocalPod, PolicySettings } from "../model.ts";
import type { L4, Ruleset } from "../ruleset.ts";

export const SETTINGS: PolicySettings = { onUnknown: "deny", allowFromNode: true };

export function kubePod(pod: TestPod): KubePod {
  return {
    namespace: pod.namespace,
    name: pod.name,
    uid: `uid-of-${pod.name}`,
    nodeName: pod.node,
    hostNetwork: pod.hostNetwork ?? false,
    addresses: pod.addresses.map(parseAddress),
    labels: pod.labels,
    annotations: {},
    ports: pod.ports as readonly NamedPort[],
    ended: pod.ended ?? false,
  };
}

/** Its attachment, as long as it runs in a network of its own. */
export function localPod(pod: TestPod): LocalPod | undefined {
  if (pod.hostNetwork || pod.ended) return undefined;
  const { namespace, name } = pod;
  const addresses = pod.addresses.map(parseAddress);
  return { id: `${namespace}/${name}`, namespace, name, uid: `uid-of-${name}`, addresses };
}

export function networkPolicy(object: PolicyObject): NetworkPolicy {
  const policy = parseNetworkPolicy(object);
  if (policy === undefined) throw new Error("no policy");
  return policy;
}

/** The cluster as one of its nodes sees it. */
export function stateOf(
  cluster: TestCluster,
  node: string,
  clusterPolicies: readonly ClusterNetworkPolicy[] = [],
): ClusterState {
  return {
    clusterPolicies,
    pods: cluster.pods.map(kubePod),
    namespaces: cluster.namespaces,
    policies: cluster.policies.map(networkPolicy),
    locals: cluster.pods.filter((pod) => pod.node === node).flatMap((pod) => localPod(pod) ?? []),
    policiesKnown: true,
  };
}

/** Whether all nodes that a flow passes let it through. */
export class Cluster {
  readonly #cluster: TestCluster;
  readonly #interpreters: ReadonlyMap<string, Interpreter>;

  /** @param rulesetOf a node's, if not what is compiled for it */
  constructor(cluster: TestCluster, rulesetOf = (node: string): Ruleset => compile(stateOf(cluster, node), SETTINGS)) {
    this.#cluster = cluster;
    this.#interpreters = new Map(cluster.nodes.map(({ name }) => [name, new Interpreter(rulesetOf(name))]));
  }

  allows(flow: Flow): boolean {
    const { nodes } = this.#cluster;
    const from = this.#nodeOf(flow.source);
    const to = this.#nodeOf(flow.destination);
    // What a pod sends to itself, or its node, is not forwarded.
    const sender = nodes.find(({ addresses }) => addresses.includes(flow.source));
    const receiver = nodes.find(({ addresses }) => addresses.includes(flow.destination));
    return [...new Set([from, to])].every((node) => {
      const interpreter = this.#interpreters.get(node ?? "");
      if (interpreter === undefined || receiver?.name === node) return true;
      return interpreter.judge(packetOf(flow), sender?.name === node ? "output" : "forward").allowed;
    });
  }

  #nodeOf(address: string): string | undefined {
    return this.#cluster.pods.find(
      ({ addresses, hostNetwork, ended }) => !hostNetwork && !ended && addresses.includes(address),
    )?.node;
  }
}

export function packetOf({ source, destination, protocol, port }: Flow): Packet {
  return {
    saddr: parseAddress(source),
    daddr: parseAddress(destination),
    protocol: protocol.toLowerCase() as L4 | "icmp",
    dport: port,
  };
}

// SPDX-License-Identifier: Apache-2.0
//
// The machines of the lab: namespaces, and the underlay that joins the nodes. The bridge has a namespace of its own, so
// nothing is made or changed in the network of the host.
import { inParallel } from "./concurrency.ts";
import { ip } from "./ip.ts";
import { namespacesOf, type Topology, UNDERLAY_LENGTH } from "./topology.ts";

/** Makes all namespaces, and each node's eth0 on the bridge with its addresses. Not undone on failure: sweep does that. */
export async function makeNetwork(topology: Topology): Promise<void> {
  await ip(
    [],
    namespacesOf(topology).map((namespace) => `netns add ${namespace}`),
  );
  const { namespace: underlay } = topology.underlay;
  await ip(
    ["-n", underlay],
    [
      // Nobody asks for multicast here; a bridge that snoops would drop neighbour discovery until a querier spoke.
      "link add br0 type bridge stp_state 0 mcast_snooping 0",
      "link set br0 up",
      ...topology.nodes.flatMap((node) => [
        `link add ${node.name} type veth peer name eth0 netns ${node.namespace}`,
        `link set ${node.name} master br0 up`,
      ]),
    ],
  );
  await inParallel(topology.nodes, 8, (node) =>
    ip(
      ["-n", node.namespace],
      [
        "link set lo up",
        ...node.addresses.map((address) =>
          address.includes(":")
            ? `addr add ${address}/${UNDERLAY_LENGTH[6]} dev eth0 nodad`
            : `addr add ${address}/${UNDERLAY_LENGTH[4]} dev eth0`,
        ),
        "link set eth0 up",
      ],
    ),
  );
  // A runtime brings a pod's lo up before it asks for eth0.
  const pods = topology.nodes.flatMap((node) => node.pods);
  await inParallel(pods, 8, (pod) => ip(["-n", pod.namespace, "link", "set", "lo", "up"]));
}

// SPDX-License-Identifier: Apache-2.0
//
// The machines of the lab: namespaces, and the underlay that joins the nodes. The bridge has a namespace of its own, so
// nothing is made or changed in the network of the host.
import { inParallel } from "./concurrency.ts";
import { ip } from "./ip.ts";
import { type LabNode, namespacesOf, type Topology, UNDERLAY_LENGTH } from "./topology.ts";

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
  await inParallel(topology.nodes, 8, (node) => ip(["-n", node.namespace], uplinkCommands(node)));
  // A runtime brings a pod's lo up before it asks for eth0.
  const pods = topology.nodes.flatMap((node) => node.pods);
  await inParallel(pods, 8, (pod) => ip(["-n", pod.namespace, "link", "set", "lo", "up"]));
}

function uplinkCommands(node: LabNode): string[] {
  const [v4, v6] = [false, true].map((colon) => node.addresses.find((address) => address.includes(":") === colon));
  const commands = ["link set lo up"];
  if (v4 !== undefined) commands.push(`addr add ${v4}/${UNDERLAY_LENGTH[4]} dev eth0`);
  if (v6 !== undefined) {
    // The kernel asks for the neighbour of a forwarded packet from its link-local address only, and the one it would make
    // itself is tentative for up to two seconds. A real node's uplink has long had its own when pods come.
    commands.push(
      "link set eth0 addrgenmode none",
      `addr add fe80::${v6.slice(v6.lastIndexOf(":") + 1)}/64 dev eth0 nodad`,
      `addr add ${v6}/${UNDERLAY_LENGTH[6]} dev eth0 nodad`,
    );
  }
  commands.push("link set eth0 up");
  return commands;
}

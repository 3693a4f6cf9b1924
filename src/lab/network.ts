// SPDX-License-Identifier: Apache-2.0
//
// The machines of the lab: namespaces, and the underlay that joins the nodes. Bridges and router have a namespace of their
// own, so nothing is made or changed in the network of the host.
import { inParallel } from "./concurrency.ts";
import { ip } from "./ip.ts";
import { type LabNode, namespacesOf, type Topology, UNDERLAY_LENGTH } from "./topology.ts";

/** Makes all namespaces, and each node's eth0 on its link with its addresses. Not undone on failure: sweep does that. */
export async function makeNetwork(topology: Topology): Promise<void> {
  await ip(
    [],
    namespacesOf(topology).map((namespace) => `netns add ${namespace}`),
  );
  await ip(["-n", topology.underlay.namespace], underlayCommands(topology));
  await inParallel(topology.nodes, 8, (node) => ip(["-n", node.namespace], uplinkCommands(topology, node)));
  if (topology.underlay.kind !== "l2") await makeRouter(topology);
  // A runtime brings a pod's lo up before it asks for eth0.
  const pods = topology.nodes.flatMap((node) => node.pods);
  await inParallel(pods, 8, (pod) => ip(["-n", pod.namespace, "link", "set", "lo", "up"]));
}

function underlayCommands({ underlay, nodes }: Topology): string[] {
  return [
    ...underlay.links.flatMap(({ name, router }) => [
      // Nobody asks for multicast here; a bridge that snoops would drop neighbour discovery until a querier spoke.
      `link add ${name} type bridge stp_state 0 mcast_snooping 0`,
      ...addressCommands(name, router),
      `link set ${name} up`,
    ]),
    ...nodes.flatMap((node) => [
      `link add ${node.name} type veth peer name eth0 netns ${node.namespace}`,
      `link set ${node.name} master ${node.link} up`,
    ]),
  ];
}

function uplinkCommands({ underlay }: Topology, node: LabNode): string[] {
  const router = underlay.links.find(({ name }) => name === node.link)?.router ?? [];
  return [
    "link set lo up",
    ...addressCommands("eth0", node.addresses),
    "link set eth0 up",
    ...router.map((address) => `route add default via ${address}`),
  ];
}

function addressCommands(device: string, addresses: readonly string[]): string[] {
  const [v4, v6] = [false, true].map((colon) => addresses.find((address) => address.includes(":") === colon));
  const commands = v4 === undefined ? [] : [`addr add ${v4}/${UNDERLAY_LENGTH[4]} dev ${device}`];
  if (v6 !== undefined) {
    // The kernel asks for the neighbour of a forwarded packet from its link-local address only, and the one it would make
    // itself is tentative for up to two seconds. A real node's uplink has long had its own when pods come.
    commands.push(
      `link set ${device} addrgenmode none`,
      `addr add fe80::${v6.slice(v6.lastIndexOf(":") + 1)}/64 dev ${device} nodad`,
      `addr add ${v6}/${UNDERLAY_LENGTH[6]} dev ${device} nodad`,
    );
  }
  return commands;
}

/** Has the router forward, and gives it what a cloud's route table has: the nodes as next hops of their pods' subnets. */
async function makeRouter({ underlay, nodes }: Topology): Promise<void> {
  const switches = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"].map((name) => `echo 1 > /proc/sys/net/${name}`);
  await ip(["netns", "exec", underlay.namespace, "sh", "-c", switches.join(" && ")]);
  if (underlay.kind !== "routed") return;
  const routes = nodes.flatMap(({ podCIDRs, addresses }) =>
    podCIDRs.map((cidr, i) => `route add ${cidr} via ${addresses[i]}`),
  );
  await ip(["-n", underlay.namespace], routes);
}

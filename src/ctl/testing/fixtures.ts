// SPDX-License-Identifier: Apache-2.0
//
// What the tests of this folder share.
import { Allocation } from "../../gen/flatnet/ipam/v1/ipam.ts";

/** An allocation of a pod "namespace/name"; of none when the name is "". */
export function allocation(addresses: string[], podName: string, more: Partial<Allocation> = {}): Allocation {
  const [namespace = "", name = ""] = podName.split("/");
  return {
    // Fields that are not of interest here have proto3's defaults.
    ...Allocation.decode(new Uint8Array()),
    attachment: { network: "flatnet", containerId: `container-${addresses[0]}`, ifname: "eth0" },
    pod: podName === "" ? undefined : { namespace, name, uid: "" },
    netns: "/run/netns/a",
    hostIfname: "fl0123456789a",
    addresses,
    allocatedAtMs: 0n,
    portMappings: [],
    ...more,
  };
}

/** A network's gateway. */
export function gateway(address: string): Allocation {
  const attachment = { network: "bridged", containerId: `gateway:${address}`, ifname: "" };
  return allocation([address], "", { attachment, netns: "", hostIfname: "" });
}

// SPDX-License-Identifier: Apache-2.0
//
// In what the daemon's records and the runtime's pods differ. Pure. The other way round nothing can be said: pods on the
// node's own network have no attachment.
import type { Allocation, Finding } from "../gen/flatnet/ipam/v1/ipam.ts";
import type { Sandbox } from "./runtime.ts";

/** A finding for each attachment of a container that the runtime doesn't have, or has stopped. */
export function compareWithRuntime(allocations: readonly Allocation[], sandboxes: readonly Sandbox[]): Finding[] {
  const ready = new Map(sandboxes.map((sandbox) => [sandbox.id, sandbox.ready]));
  return allocations.flatMap(({ attachment, hostIfname, addresses }) => {
    // A network's gateway is no container's.
    if (attachment === undefined || attachment.ifname === "") return [];
    const state = ready.get(attachment.containerId);
    if (state === true) return [];
    const { network, containerId, ifname } = attachment;
    const key = `${network}/${containerId}/${ifname} (${addresses.join(", ")})`;
    const [kind, why] =
      state === undefined
        ? ["runtime-unknown", "the runtime has no such pod: another runtime's, or its DEL never came"]
        : ["runtime-stopped", "the runtime has stopped its pod, and its DEL has not come"];
    return [
      { kind, attachment, hostIfname, address: "", message: `${key}: ${why}; DEL, GC or its namespace's end ends it` },
    ];
  });
}

// SPDX-License-Identifier: Apache-2.0
import { existsSync } from "node:fs";
import { networkInterfaces } from "node:os";
import type { NodeAddress } from "./adoption-plan.ts";

/** The addresses of this network namespace on links that run, but those of loopback. */
export function readNodeAddresses(): NodeAddress[] {
  return Object.entries(networkInterfaces()).flatMap(([ifname, addresses = []]) => {
    const isBridge = existsSync(`/sys/class/net/${ifname}/bridge`);
    return addresses
      .filter(({ internal, scopeid }) => !internal && (scopeid ?? 0) === 0)
      .map(({ address }) => ({ ifname, address, isBridge }));
  });
}

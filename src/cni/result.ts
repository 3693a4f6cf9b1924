// SPDX-License-Identifier: Apache-2.0
//
// What ADD answers (CNI spec, section 5, "ADD Success"), in each version that is supported. Pure.
import { formatAddress, hostLength } from "../net/address.ts";
import { formatMac } from "../net/mac.ts";
import { GATEWAY, type PodNetworkPlan } from "./plan.ts";
import type { CniVersion } from "./version.ts";

/** The result document. `sandbox` is CNI_NETNS as the runtime gave it. */
export function resultDocument(plan: PodNetworkPlan, sandbox: string, cniVersion: CniVersion): string {
  // mtu came with 1.1.0, and ips[].version went with 1.0.0.
  const mtu = cniVersion === "1.1.0" ? { mtu: plan.mtu } : {};
  const withVersion = cniVersion === "0.3.1" || cniVersion === "0.4.0";
  const ips = [];
  const routes = [];
  for (const address of plan.addresses) {
    const family = address.length === 4 ? 4 : 6;
    const gateway = formatAddress(GATEWAY[family]);
    ips.push({
      ...(withVersion ? { version: `${family}` } : {}),
      address: `${formatAddress(address)}/${hostLength(family)}`,
      gateway,
      interface: 1,
    });
    routes.push({ dst: family === 4 ? "0.0.0.0/0" : "::/0", gw: gateway });
  }
  return JSON.stringify({
    cniVersion,
    interfaces: [
      { name: plan.host.name, mac: formatMac(plan.host.mac), ...mtu },
      { name: plan.pod.name, mac: formatMac(plan.pod.mac), sandbox, ...mtu },
    ],
    ips,
    routes,
    dns: {},
  });
}

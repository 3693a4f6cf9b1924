// SPDX-License-Identifier: Apache-2.0
//
// The node's anti-spoofing rule. One rule serves every pod: a packet from a host end is dropped unless the route back to
// its source leads out of that same host end, and ADD makes such a route for the pod's own addresses only. It looks before
// connection tracking and address translation, at what the pod sent.
//
//   chain antispoof {
//     type filter hook prerouting priority raw; policy accept;
//     iifgroup & 65535 == 26220 fib saddr . iif oif missing counter drop
//   }
import { COUNTER, compare, DROP, fib, hostU32 } from "./expressions.ts";
import { byHostEnd } from "./host-ends.ts";
import { type Chain, PRIORITY } from "./table.ts";

export const ANTISPOOF: Chain = {
  name: "antispoof",
  hook: { type: "filter", at: "prerouting", priority: PRIORITY.raw },
  rules: [
    [
      ...byHostEnd("iifgroup"),
      // 1 when the route back leads out of where the packet came from.
      fib(["saddr", "iif", "present"], "oif"),
      compare(hostU32(0)),
      COUNTER,
      DROP,
    ],
  ],
};

// SPDX-License-Identifier: Apache-2.0
//
// ADDRESS < POLICIES, inside a network namespace: our table with policies for the one pod that has the address, which stays when this ends.
import { readFileSync } from "node:fs";
import { parseNetworkPolicy } from "../src/kube/parse-network-policy.ts";
import { parseAddress } from "../src/net/address.ts";
import { NETLINK_NETFILTER, Netlink } from "../src/netlink/event-loop.ts";
import { Transactor } from "../src/nft/transactor.ts";
import { modelOf } from "../src/policy/compile.ts";
import { PolicyTable } from "../src/policy/engine/policy-table.ts";
import { sys, writeAside } from "../src/sys/node.ts";

const LOG_GROUP = 26220;
const addresses = [parseAddress(process.argv[2] ?? "")];
const objects = JSON.parse(readFileSync(0, "utf8")) as object[];
const pod = { namespace: "ruled", name: "server", uid: "1" };
const model = modelOf(
  {
    pods: [
      { ...pod, nodeName: "n", hostNetwork: false, addresses, labels: {}, annotations: {}, ports: [], ended: false },
    ],
    namespaces: [{ name: pod.namespace, labels: {} }],
    policies: objects.flatMap((object) => parseNetworkPolicy(object) ?? []),
    locals: [{ id: "1", ...pod, addresses }],
    policiesKnown: true,
  },
  { onUnknown: "deny", allowFromNode: true },
);
const transactor = Transactor.open(sys, writeAside);
const netlink = Netlink.open(NETLINK_NETFILTER);
const table = await PolicyTable.open(
  { netlink, transactor },
  { ruleset: model.ruleset, take: () => model.commit() },
  LOG_GROUP,
);
await table.sync();
transactor.close();
netlink.close();

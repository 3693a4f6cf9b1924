// SPDX-License-Identifier: Apache-2.0
//
// Run inside a network namespace: one call of the daemon's netlink code, as the JSON on stdin says it, and its outcome as
// JSON on stdout.
import { text } from "node:stream/consumers";
import { formatPrefix } from "../../src/net/prefix.ts";
import { Netlink } from "../../src/netlink/event-loop.ts";
import { NetlinkError } from "../../src/netlink/message.ts";
import { describeRoute } from "../../src/netlink/route.ts";
import { NetlinkRoutes, type RouteKernel } from "../../src/routes/kernel.ts";
import { Reconciler } from "../../src/routes/reconciler.ts";
import { sys } from "../../src/sys/node.ts";
import { fromJson, type NetlinkCall, type ReconcileResult, toJson } from "./netlink.ts";

async function perform(netlink: Netlink, call: NetlinkCall): Promise<unknown> {
  switch (call.call) {
    case "submit":
      return (await netlink.submit(call.requests)).map(({ request, answers, error }) => ({
        what: request.what,
        answers,
        error: error && outcomeOf(error),
      }));
    case "dump":
      return netlink.dump(call.request);
    case "dumps":
      return Promise.all(call.requests.map((request) => netlink.dump(request)));
    case "transaction":
      return netlink.transaction(call.begin, call.requests, call.end);
    case "reconcile":
      return reconcile(call);
  }
}

async function reconcile({
  self,
  passes,
  restored = 0,
  table,
  podMtu = 0,
}: Extract<NetlinkCall, { call: "reconcile" }>): Promise<ReconcileResult | undefined> {
  const routes = new NetlinkRoutes(sys);
  let requests = 0;
  const counted: RouteKernel = {
    routes: () => routes.routes(),
    links: () => routes.links(),
    change: (items, toRequest) => {
      requests += items.length;
      return routes.change(items, toRequest);
    },
    lookUp: (items, toRequest) => {
      requests += items.length;
      return routes.lookUp(items, toRequest);
    },
  };
  const reconciler = new Reconciler(counted, { self, table, podMtu });
  let result: ReconcileResult | undefined;
  for (const [i, nodes] of passes.entries()) {
    requests = 0;
    // JSON has no undefined in a list.
    const { set, removed } = await reconciler.pass(nodes ?? undefined, i < restored);
    result = {
      set: set.map(describeRoute),
      removed: removed.map(describeRoute),
      broken: reconciler
        .broken()
        .map(({ node, prefix, state, why }) => `${formatPrefix(prefix)} of ${node}: ${state}: ${why}`),
      mtu: reconciler.mtu,
      requests,
    };
  }
  routes.close();
  return result;
}

function outcomeOf({ code, errnoName, message }: NetlinkError) {
  return { code, errnoName, message };
}

const call = fromJson(await text(process.stdin)) as NetlinkCall;
const netlink = Netlink.open(call.protocol);
try {
  process.stdout.write(toJson({ result: (await perform(netlink, call)) ?? null }));
} catch (error) {
  if (!(error instanceof NetlinkError)) throw error;
  process.stdout.write(toJson({ error: outcomeOf(error) }));
} finally {
  netlink.close();
}

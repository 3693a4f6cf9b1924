// SPDX-License-Identifier: Apache-2.0
//
// Run inside a network namespace: one call of the daemon's netlink code, as the JSON on stdin says it, and its outcome as
// JSON on stdout.
import { text } from "node:stream/consumers";
import { Netlink } from "../../src/netlink/event-loop.ts";
import { NetlinkError } from "../../src/netlink/message.ts";
import { listOurRoutes, reconcileRoutes } from "../../src/routes/reconcile.ts";
import { readPodMtu } from "../../src/routes/uplinks.ts";
import { fromJson, type NetlinkCall, toJson } from "./netlink.ts";

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
      return reconcileRoutes(netlink, call.desired);
    case "podMtu":
      return readPodMtu(netlink, await listOurRoutes(netlink));
  }
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

// SPDX-License-Identifier: Apache-2.0
//
// Run inside a network namespace: a line for every notification of the kernel, until it is killed.
import { NETLINK_ROUTE } from "../../src/netlink/event-loop.ts";
import { listen } from "../../src/netlink/notifications.ts";
import { GROUPS } from "../../src/routes/relevance.ts";
import { ListeningSocket } from "../../src/sys/node.ts";

const tell = (line: string) => process.stdout.write(`${line}\n`);
listen(ListeningSocket.open(NETLINK_ROUTE, GROUPS, 1 << 18, "here"), {
  onMessage: ({ type }) => tell(`message ${type}`),
  onLost: () => tell("lost"),
});
tell("listening");

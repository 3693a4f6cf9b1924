// SPDX-License-Identifier: Apache-2.0
//
// The sender of flood.ts, run in a network namespace: each datagram from a socket of its own, so that each is a
// connection's first packet.
//
//     flood.script.ts FLOOD    prints "ready", sends until stdin ends and at least some went to each target, and prints
//                              how many went, by label
import { parseAddress } from "../../src/net/address.ts";
import { sys } from "../../src/sys/node.ts";
import type { Flood } from "./flood.ts";
import { AF_INET, AF_INET6, libc, SOCK_DGRAM, socketAddress } from "./libc.ts";

const POLLIN = 1;

const { targets, intervalUs }: Flood = JSON.parse(process.argv[2] ?? "");
const streams = targets.map(({ address, port, label }) => {
  const to = parseAddress(address);
  return { to: socketAddress(to, port), family: to.length === 4 ? AF_INET : AF_INET6, label, sent: 0 };
});
/** At least so many go to each target, if they do within this time behind the end. */
const LEAST = 20;
const PATIENCE_MS = 5000;
const ended = new Uint8Array(8);
new DataView(ended.buffer).setInt16(4, POLLIN, true);
const encoder = new TextEncoder();
process.stdout.write("ready\n");
let endedAt = Number.POSITIVE_INFINITY;
for (;;) {
  // At the end of stdin it can be read.
  if (endedAt === Number.POSITIVE_INFINITY && libc.poll(ended, 1, 0) !== 0) endedAt = sys.now();
  const over = sys.now() - endedAt;
  if (over > PATIENCE_MS || (over >= 0 && streams.every(({ sent }) => sent >= LEAST))) break;
  for (const stream of streams) {
    const fd = sys.socket(stream.family, SOCK_DGRAM, 0);
    const text = encoder.encode(`${stream.label} ${stream.sent}`);
    // Before there is a link there is no way.
    if (libc.sendto(fd, text, text.length, 0, stream.to, stream.to.length) === text.length) stream.sent++;
    sys.close(fd);
  }
  sys.sleep(intervalUs / 1000);
}
process.stdout.write(`${JSON.stringify(Object.fromEntries(streams.map(({ label, sent }) => [label, sent])))}\n`);

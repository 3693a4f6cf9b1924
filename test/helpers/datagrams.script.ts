// SPDX-License-Identifier: Apache-2.0
//
// One end of datagrams.ts, run in a network namespace.
//
//     datagrams.script.ts listen           prints {"port": PORT}, then {"from": ADDRESS, "text": TEXT} for each datagram
//     datagrams.script.ts send DATAGRAMS   sends them one after the other, each from the address that it says

import { createSocket } from "node:dgram";
import { once } from "node:events";
import type { Datagram } from "./datagrams.ts";

const print = (value: unknown) => process.stdout.write(`${JSON.stringify(value)}\n`);

async function listen(): Promise<void> {
  const socket = createSocket("udp6", (message, peer) => {
    // An IPv4 peer of a socket that serves both families has an IPv4-mapped address (RFC 4291, section 2.5.5.2).
    print({ from: peer.address.replace(/^::ffff:/, ""), text: String(message) });
  });
  await once(socket.bind(0, "::"), "listening");
  print({ port: socket.address().port });
}

async function send(datagrams: readonly Datagram[]): Promise<void> {
  for (const { from, to, port, text } of datagrams) {
    const socket = createSocket(from.includes(":") ? "udp6" : "udp4");
    try {
      await once(socket.bind(0, from), "listening");
      await new Promise<void>((resolve, reject) => {
        socket.send(text, port, to, (error) => (error === null ? resolve() : reject(error)));
      });
    } finally {
      socket.close();
    }
  }
}

const [verb = "", datagrams = "[]"] = process.argv.slice(2);
if (verb === "listen") await listen();
else if (verb === "send") await send(JSON.parse(datagrams));
else throw new TypeError(`no such end: ${verb}`);

// SPDX-License-Identifier: Apache-2.0
//
// One end of a probe, run by probe.ts in a network namespace. The receiver answers each peer with the address that it sees
// it under; the sender prints that beside the address that it has itself.
//
//     probe.script.ts serve tcp|udp ADDRESS           prints "port N"
//     probe.script.ts dial tcp|udp ADDRESS PORT       prints {"local": …, "seen": …}

import { createSocket } from "node:dgram";
import { connect, createServer } from "node:net";

const [verb = "", protocol = "", address = "", port = ""] = process.argv.slice(2);
const udpType = address.includes(":") ? "udp6" : "udp4";

const ends: Record<string, () => void> = {
  "serve tcp": () => {
    const server = createServer((socket) => socket.end(socket.remoteAddress ?? ""));
    server.listen({ host: address, port: 0 }, () => printPort((server.address() as { port: number }).port));
  },
  "serve udp": () => {
    const socket = createSocket(udpType);
    socket.on("message", (_message, peer) => socket.send(peer.address, peer.port, peer.address));
    socket.bind({ address, port: 0 }, () => printPort(socket.address().port));
  },
  "dial tcp": () => {
    const socket = connect({ host: address, port: Number(port) });
    let seen = "";
    socket.setEncoding("utf8");
    socket.on("connect", () => {
      const local = socket.localAddress ?? "";
      socket.on("data", (text: string) => {
        seen += text;
      });
      socket.on("end", () => printAnswer(local, seen));
    });
  },
  "dial udp": () => {
    const socket = createSocket(udpType);
    // A datagram may get lost; the probe's deadline is its caller's.
    const again = setInterval(() => socket.send("who am I?"), 200);
    socket.on("message", (text) => {
      clearInterval(again);
      printAnswer(socket.address().address, text.toString());
      socket.close();
    });
    socket.connect(Number(port), address, () => socket.send("who am I?"));
  },
};

function printPort(number: number): void {
  process.stdout.write(`port ${number}\n`);
}

function printAnswer(local: string, seen: string): void {
  process.stdout.write(JSON.stringify({ local, seen }));
}

const end = ends[`${verb} ${protocol}`];
if (end === undefined) throw new TypeError(`no such probe: ${verb} ${protocol}`);
end();

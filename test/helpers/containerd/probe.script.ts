// SPDX-License-Identifier: Apache-2.0
//
// One end of a probe, run by probe.ts in a network namespace. The receiver answers each peer with the address that it sees
// it under; the sender prints that beside the address that it has itself.
//
//     probe.script.ts serve [PORT]       prints {"tcp": PORT, "udp": PORT}, and serves until it is killed
//     probe.script.ts dial QUESTIONS     prints an answer a question, in order

import { createSocket } from "node:dgram";
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import type { ProbeAnswer, ProbeQuestion } from "./probe.ts";

const DEADLINE_MS = 5000;

/** An IPv4 peer of a socket that serves both families has an IPv4-mapped address (RFC 4291, section 2.5.5.2). */
const unmapped = (address = "") => address.replace(/^::ffff:/, "");

/** `port` 0 leaves the choice to the kernel. */
async function serve(port: number): Promise<void> {
  const tcp = createServer((socket) => {
    // A peer that is gone before it has its answer is its own business.
    socket.on("error", () => {});
    socket.end(unmapped(socket.remoteAddress));
  });
  const udp = createSocket("udp6", (_message, peer) => udp.send(unmapped(peer.address), peer.port, peer.address));
  await Promise.all([once(tcp.listen(port, "::"), "listening"), once(udp.bind(port, "::"), "listening")]);
  print({ tcp: (tcp.address() as AddressInfo).port, udp: udp.address().port });
}

async function ask(question: ProbeQuestion): Promise<ProbeAnswer> {
  const signal = AbortSignal.timeout(DEADLINE_MS);
  const answer = question.protocol === "tcp" ? askTcp(question, signal) : askUdp(question, signal);
  return answer.catch((error: unknown) => ({ local: "", seen: String(error) }));
}

async function askTcp({ address, port }: ProbeQuestion, signal: AbortSignal): Promise<ProbeAnswer> {
  const socket = connect({ host: address, port });
  try {
    await once(socket, "connect", { signal });
    const local = socket.localAddress ?? "";
    let seen = "";
    socket.setEncoding("utf8").on("data", (text) => {
      seen += text;
    });
    await once(socket, "end", { signal });
    return { local, seen };
  } finally {
    socket.destroy();
  }
}

async function askUdp({ address, port }: ProbeQuestion, signal: AbortSignal): Promise<ProbeAnswer> {
  const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
  socket.connect(port, address);
  await once(socket, "connect", { signal });
  // A datagram may get lost.
  const again = setInterval(() => socket.send("who am I?"), 200);
  try {
    socket.send("who am I?");
    const [seen] = await once(socket, "message", { signal });
    return { local: socket.address().address, seen: String(seen) };
  } finally {
    clearInterval(again);
    socket.close();
  }
}

function print(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

const [verb = "", argument] = process.argv.slice(2);
if (verb === "serve") await serve(Number(argument ?? 0));
else if (verb === "dial") print(await Promise.all((JSON.parse(argument ?? "[]") as ProbeQuestion[]).map(ask)));
else throw new TypeError(`no such end of a probe: ${verb}`);

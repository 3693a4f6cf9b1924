// SPDX-License-Identifier: Apache-2.0
//
// The end of packets.ts in a network namespace: sends the first packets of connections, made by hand, and tells which
// ones have arrived. Nothing has to listen on a port, and nothing is waited for that doesn't come.
//
//     packets.script.ts    prints "ready"; a line of stdin is a PacketCommand, a line of stdout is what came of it
import { createInterface } from "node:readline";
import { formatAddress, parseAddress } from "../../../src/net/address.ts";
import { sys } from "../../../src/sys/node.ts";
import { SOCK_RAW } from "../../../src/sys/sys.ts";
import { crc32c } from "../crc32c.ts";
import { AF_INET, AF_INET6, libc, socketAddress } from "../libc.ts";
import type { ArrivedPacket, FirstPacket, PacketCommand } from "./packets.ts";

const SOCK_NONBLOCK = 0o4000;
const SOL_SOCKET = 1;
const SO_RCVBUFFORCE = 33;
const NUMBERS = { TCP: 6, UDP: 17, SCTP: 132 } as const;
const ICMP = { [AF_INET]: 1, [AF_INET6]: 58 } as const;
const ECHO = { [AF_INET]: 8, [AF_INET6]: 128 } as const;
const SYN = 0x02;
const FLAGS = 0x3f;
const SCTP_INIT = 1;

type Domain = typeof AF_INET | typeof AF_INET6;

interface Socket {
  readonly fd: number;
  readonly domain: Domain;
  readonly protocol: FirstPacket["protocol"];
}

const sockets = ([AF_INET, AF_INET6] as const).flatMap((domain) =>
  (["TCP", "UDP", "SCTP", "ICMP"] as const).map((protocol): Socket => {
    const number = protocol === "ICMP" ? ICMP[domain] : NUMBERS[protocol];
    const fd = sys.socket(domain, SOCK_RAW | SOCK_NONBLOCK, number);
    sys.setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, new Uint8Array(new Uint32Array([4 << 20]).buffer));
    return { fd, domain, protocol };
  }),
);

/** RFC 1071. */
function checksum(bytes: readonly number[]): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] as number) << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** Before what TCP and UDP have in their checksums (RFC 9293, section 3.1; RFC 8200, section 8.1). */
function pseudoHeader(from: Uint8Array, to: Uint8Array, protocol: number, length: number): number[] {
  return [...from, ...to, 0, protocol, length >> 8, length & 255];
}

function encode({ from, to, protocol, port = 0, id }: FirstPacket): Uint8Array {
  const [source, destination] = [parseAddress(from), parseAddress(to)];
  const length = { TCP: 20, UDP: 8, SCTP: 32, ICMP: 8 }[protocol];
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  if (protocol !== "ICMP") {
    view.setUint16(0, id);
    view.setUint16(2, port);
  }
  const sum = (number: number) => checksum([...pseudoHeader(source, destination, number, length), ...bytes]);
  switch (protocol) {
    case "TCP":
      view.setUint32(4, id);
      view.setUint8(12, 5 << 4);
      view.setUint8(13, SYN);
      view.setUint16(14, 65_535);
      view.setUint16(16, sum(NUMBERS.TCP));
      break;
    case "UDP":
      view.setUint16(4, length);
      view.setUint16(6, sum(NUMBERS.UDP) || 0xffff);
      break;
    case "SCTP":
      view.setUint8(12, SCTP_INIT);
      view.setUint16(14, 20);
      view.setUint32(16, id || 1);
      view.setUint32(20, 65_536);
      view.setUint16(24, 1);
      view.setUint16(26, 1);
      view.setUint32(8, crc32c(bytes), true);
      break;
    case "ICMP":
      view.setUint8(0, source.length === 4 ? ECHO[AF_INET] : ECHO[AF_INET6]);
      view.setUint16(4, id);
      // The kernel sees to IPv6's (RFC 3542, section 3.1).
      if (source.length === 4) view.setUint16(2, checksum([...bytes]));
      break;
  }
  return bytes;
}

function send(packet: FirstPacket): boolean {
  const to = parseAddress(packet.to);
  const domain = to.length === 4 ? AF_INET : AF_INET6;
  const socket = sockets.find((one) => one.domain === domain && one.protocol === packet.protocol) as Socket;
  const bytes = encode(packet);
  const name = socketAddress(to);
  return libc.sendto(socket.fd, bytes, bytes.length, 0, name, name.length) === bytes.length;
}

const buffer = new Uint8Array(65_536);

function* arrived({ fd, domain, protocol }: Socket): Generator<ArrivedPacket> {
  for (;;) {
    const name = new Uint8Array(28);
    const nameLength = new Uint8Array(new Uint32Array([name.length]).buffer);
    const length = libc.recvfrom(fd, buffer, buffer.length, 0, name, nameLength);
    if (length < 0) return;
    const whole = buffer.subarray(0, length);
    // An IPv4 raw socket has the IP header before the packet (raw(7)), an IPv6 one has not.
    const bytes = domain === AF_INET ? whole.subarray(((whole[0] ?? 0) & 0xf) * 4) : whole;
    const from = formatAddress(domain === AF_INET ? name.slice(4, 8) : name.slice(8, 24));
    const packet = decode(bytes, domain, protocol);
    if (packet !== undefined) yield { from, protocol, ...packet };
  }
}

/** Only what begins a connection: refusals and answers come as well. */
function decode(bytes: Uint8Array, domain: Domain, protocol: FirstPacket["protocol"]) {
  if (bytes.length < 8) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (protocol === "ICMP") return bytes[0] === ECHO[domain] ? { id: view.getUint16(4), port: undefined } : undefined;
  if (protocol === "TCP" && ((bytes[13] as number) & FLAGS) !== SYN) return undefined;
  if (protocol === "SCTP" && bytes[12] !== SCTP_INIT) return undefined;
  return { id: view.getUint16(0), port: view.getUint16(2) };
}

process.stdout.write("ready\n");
for await (const line of createInterface(process.stdin)) {
  const command = JSON.parse(line) as PacketCommand;
  const answer =
    "send" in command ? command.send.filter((packet) => !send(packet)) : sockets.flatMap((one) => [...arrived(one)]);
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}

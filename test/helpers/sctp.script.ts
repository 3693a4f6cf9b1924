// SPDX-License-Identifier: Apache-2.0
//
// One end of sctp.ts, run in a network namespace; raw sockets, blocking.
//
//     sctp.script.ts answer 4|6 RECEIVER   prints "ready", and then answers each INIT of the family
//     sctp.script.ts probe PROBE           sends INITs, and prints what came of it

import { randomBytes } from "node:crypto";
import { writeSync } from "node:fs";
import { formatAddress, parseAddress } from "../../src/net/address.ts";
import { sys } from "../../src/sys/node.ts";
import { SOCK_RAW, SysError } from "../../src/sys/sys.ts";
import { crc32c } from "./crc32c.ts";
import { AF_INET, AF_INET6, libc, socketAddress } from "./libc.ts";
import type { SctpAnswer, SctpProbe, SctpProbed } from "./sctp.ts";

const IPPROTO_SCTP = 132;
/** Chunk types (RFC 9260, section 3.2), and the type of the state cookie parameter (section 3.3.3). */
const INIT = 1;
const INIT_ACK = 2;
const STATE_COOKIE = 7;
/** Of the common header; of INIT and INIT ACK with theirs, up to the first parameter. */
const HEADER = 12;
const FIXED = HEADER + 20;
const RETRY_MS = 200;

interface Packet {
  readonly sourcePort: number;
  readonly port: number;
  /** Verification tag: the one that the receiver had chosen, 0 in an INIT. */
  readonly tag: number;
  readonly chunk: number;
  /** The tag that the sender chose for what it is to be sent. */
  readonly initiateTag: number;
  readonly cookie: Uint8Array;
}

function encode({ sourcePort, port, tag, chunk, initiateTag, cookie }: Packet): Uint8Array {
  const parameter = cookie.length === 0 ? 0 : 4 + ((cookie.length + 3) & ~3);
  const bytes = new Uint8Array(FIXED + parameter);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, sourcePort);
  view.setUint16(2, port);
  view.setUint32(4, tag);
  view.setUint8(HEADER, chunk);
  view.setUint16(HEADER + 2, 20 + parameter);
  view.setUint32(HEADER + 4, initiateTag);
  // Receive window, outbound and inbound streams, and the first sequence number.
  view.setUint32(HEADER + 8, 65_536);
  view.setUint16(HEADER + 12, 1);
  view.setUint16(HEADER + 14, 1);
  view.setUint32(HEADER + 16, 1);
  if (parameter > 0) {
    view.setUint16(FIXED, STATE_COOKIE);
    view.setUint16(FIXED + 2, 4 + cookie.length);
    bytes.set(cookie, FIXED + 4);
  }
  view.setUint32(8, crc32c(bytes), true);
  return bytes;
}

function decode(bytes: Uint8Array): { packet: Packet; intact: boolean } | undefined {
  if (bytes.length < FIXED) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const checksum = view.getUint32(8, true);
  view.setUint32(8, 0);
  const hasCookie = bytes.length > FIXED + 4 && view.getUint16(FIXED) === STATE_COOKIE;
  const packet = {
    sourcePort: view.getUint16(0),
    port: view.getUint16(2),
    tag: view.getUint32(4),
    chunk: view.getUint8(HEADER),
    initiateTag: view.getUint32(HEADER + 4),
    cookie: hasCookie ? bytes.subarray(FIXED + 4, FIXED + view.getUint16(FIXED + 2)) : new Uint8Array(0),
  };
  return { packet, intact: crc32c(bytes) === checksum };
}

function rawSocket(v4: boolean): number {
  return sys.socket(v4 ? AF_INET : AF_INET6, SOCK_RAW, IPPROTO_SCTP);
}

/** An IPv4 raw socket has the IP header before the packet (raw(7)), an IPv6 one has not. */
function withoutIpHeader(bytes: Uint8Array, v4: boolean): Uint8Array {
  return v4 ? bytes.subarray(((bytes[0] ?? 0) & 0xf) * 4) : bytes;
}

function newTag(): number {
  // 0 is no tag.
  return randomBytes(4).readUInt32BE() || 1;
}

function answer(v4: boolean, receiver: string): never {
  const fd = rawSocket(v4);
  const buffer = new Uint8Array(65_536);
  writeSync(1, "ready\n");
  for (;;) {
    const peer = socketAddress(new Uint8Array(v4 ? 4 : 16));
    const peerLength = new Uint32Array([peer.length]);
    const length = libc.recvfrom(fd, buffer, buffer.length, 0, peer, new Uint8Array(peerLength.buffer));
    if (length < 0) continue;
    const decoded = decode(withoutIpHeader(buffer.subarray(0, length), v4));
    if (decoded === undefined || decoded.packet.chunk !== INIT) continue;
    const { sourcePort, port, initiateTag } = decoded.packet;
    const saw = formatAddress(v4 ? peer.subarray(4, 8) : peer.subarray(8, 24));
    const told: SctpAnswer = { receiver, saw, sawPort: sourcePort, port, intact: decoded.intact };
    const reply = encode({
      sourcePort: port,
      port: sourcePort,
      tag: initiateTag,
      chunk: INIT_ACK,
      initiateTag: newTag(),
      cookie: new TextEncoder().encode(JSON.stringify(told)),
    });
    libc.sendto(fd, reply, reply.length, 0, peer, peer.length);
  }
}

function probe({ to, port, sourcePort, timeoutMs }: SctpProbe): SctpProbed {
  const address = parseAddress(to);
  const v4 = address.length === 4;
  const fd = rawSocket(v4);
  // Connected, it gets what comes from there alone, and hears of refusals.
  const name = socketAddress(address);
  if (libc.connect(fd, name, name.length) < 0) return { kind: "failed", error: `no way to ${to}` };
  sys.setTimeouts(fd, RETRY_MS);
  const initiateTag = newTag();
  const init = encode({ sourcePort, port, tag: 0, chunk: INIT, initiateTag, cookie: new Uint8Array(0) });
  const buffer = new Uint8Array(65_536);
  const end = performance.now() + timeoutMs;
  do {
    try {
      sys.write(fd, init);
      const length = sys.read(fd, buffer);
      const decoded = decode(withoutIpHeader(buffer.subarray(0, length), v4));
      if (decoded === undefined) continue;
      const { packet, intact } = decoded;
      const ours = packet.chunk === INIT_ACK && packet.tag === initiateTag;
      if (!ours || packet.sourcePort !== port || packet.port !== sourcePort) continue;
      return { kind: "answered", answer: JSON.parse(new TextDecoder().decode(packet.cookie)), intact };
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      if (error.code !== "EAGAIN") return { kind: "failed", error: error.code };
    }
  } while (performance.now() < end);
  return { kind: "failed", error: "no answer" };
}

const [verb = "", ...rest] = process.argv.slice(2);
if (verb === "answer") answer(rest[0] === "4", rest[1] ?? "");
else if (verb === "probe") writeSync(1, JSON.stringify(probe(JSON.parse(rest[0] ?? ""))));
else throw new TypeError(`no such end: ${verb}`);

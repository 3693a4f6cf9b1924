// SPDX-License-Identifier: Apache-2.0
//
// ADDRESS PORT COUNT, run by Bun inside a pod: sends so many small UDP packets to an IPv4 address as fast as they go, each from another
// source port, so that each is the first packet of a connection; then says in how many milliseconds. Without COUNT it is who they
// go to: it has the port, and reads nothing.
import { dlopen } from "bun:ffi";
import { parseAddress } from "../src/net/address.ts";
import { sys } from "../src/sys/bun.ts";

const { symbols: libc } = dlopen("libc.so.6", {
  bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
  connect: { args: ["i32", "ptr", "u32"], returns: "i32" },
});

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOCK_RAW = 3;
const UDP = 17;
const HEADER = 8;
const PAYLOAD = 32;
const FIRST_PORT = 10_000;
const PORTS = 50_000;

const [address = "", port = "", count] = process.argv.slice(2);

/** struct sockaddr_in (include/uapi/linux/in.h). */
const name = new Uint8Array(16);
new DataView(name.buffer).setUint16(0, AF_INET, true);
new DataView(name.buffer).setUint16(2, count === undefined ? Number(port) : 0);
name.set(parseAddress(address), 4);

if (count === undefined) {
  if (libc.bind(sys.socket(AF_INET, SOCK_DGRAM, UDP), name, name.length) !== 0) throw new Error(`cannot bind ${port}`);
  process.stdout.write("listening\n");
  setInterval(() => {}, 1 << 30);
} else {
  const fd = sys.socket(AF_INET, SOCK_RAW, UDP);
  if (libc.connect(fd, name, name.length) !== 0) throw new Error(`cannot reach ${address}`);
  // A checksum of 0 is none (RFC 768).
  const packet = new Uint8Array(HEADER + PAYLOAD);
  const view = new DataView(packet.buffer);
  view.setUint16(2, Number(port));
  view.setUint16(4, packet.length);
  const started = performance.now();
  for (let n = 0; n < Number(count); n++) {
    view.setUint16(0, FIRST_PORT + (n % PORTS));
    sys.write(fd, packet);
  }
  process.stdout.write(`${performance.now() - started}\n`);
}

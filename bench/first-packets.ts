// SPDX-License-Identifier: Apache-2.0
//
// ADDRESS PORT COUNT, inside a pod: sends so many small UDP packets to an IPv4 address as fast as they go, each from another
// source port, so that each is the first packet of a connection; then says in how many milliseconds. Without COUNT it is who they
// go to: it has the port, and reads nothing.
import { parseAddress } from "../src/net/address.ts";
import { sys } from "../src/sys/node.ts";
import { SOCK_RAW } from "../src/sys/sys.ts";
import { AF_INET, check, libc, SOCK_DGRAM, socketAddress } from "../test/helpers/libc.ts";

const UDP = 17;
const HEADER = 8;
const PAYLOAD = 32;
const FIRST_PORT = 10_000;
const PORTS = 50_000;

const [address = "", port = "", count] = process.argv.slice(2);

if (count === undefined) {
  const fd = sys.socket(AF_INET, SOCK_DGRAM, UDP);
  const name = socketAddress(parseAddress(address), Number(port));
  check("bind", port, () => libc.bind(fd, name, name.length));
  process.stdout.write("listening\n");
  setInterval(() => {}, 1 << 30);
} else {
  const fd = sys.socket(AF_INET, SOCK_RAW, UDP);
  const name = socketAddress(parseAddress(address));
  check("connect", address, () => libc.connect(fd, name, name.length));
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

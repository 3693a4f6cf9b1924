// SPDX-License-Identifier: Apache-2.0
//
// HOST PORT SOCKET: takes TCP connections and passes their bytes on to a unix socket, which has no network namespace.
import { connect, createServer } from "node:net";

const [host = "", port = "", socket = ""] = process.argv.slice(2);

const server = createServer({ allowHalfOpen: true }, (from) => {
  const to = connect({ path: socket, allowHalfOpen: true });
  from.pipe(to);
  to.pipe(from);
  from.on("error", () => to.destroy());
  to.on("error", () => from.destroy());
  from.on("close", () => to.destroy());
  to.on("close", () => from.destroy());
});
server.listen(Number(port), host, () => process.stdout.write("listening\n"));

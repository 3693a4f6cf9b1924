// SPDX-License-Identifier: Apache-2.0
//
// The daemon's peer: a gRPC server without a service.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Server, ServerCredentials } from "@grpc/grpc-js";

const directory = mkdtempSync(join(tmpdir(), "flatnet-empty-"));
const server = new Server();
server.bindAsync(`unix:${join(directory, "socket")}`, ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
  process.stdout.write('{"msg":"serving"}\n');
});
process.on("SIGTERM", () => {
  rmSync(directory, { recursive: true, force: true });
  process.exit(0);
});

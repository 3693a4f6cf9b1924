// SPDX-License-Identifier: Apache-2.0
//
// The faults of the daemon; imported for its effect, before the daemon itself.
import { appendFileSync, readFileSync } from "node:fs";
import { arm } from "./faults.ts";

arm({
  env: process.env,
  append: appendFileSync,
  read: (path) => readFileSync(path, "utf8"),
  now: () => performance.now(),
  kill: () => process.kill(process.pid, "SIGKILL"),
});

// SPDX-License-Identifier: Apache-2.0
//
// Asks, from one network namespace to an address in another, whether it can be reached and who the other one sees.

import { run, startDaemon } from "../daemon.ts";
import { inNetns } from "../netns.ts";

const SCRIPT = new URL("./probe.script.ts", import.meta.url).pathname;

/** The sender's address, as it has it and as the receiver saw it. The same, when nothing on the way translates. */
export interface ProbeAnswer {
  readonly local: string;
  readonly seen: string;
}

/**
 * Sends from the namespace of the file `from` to `address`, which is one of the namespace of the file `to`.
 *
 * @throws CommandError when there is no answer within 10 s.
 */
export async function probe(protocol: "tcp" | "udp", from: string, to: string, address: string): Promise<ProbeAnswer> {
  const server = await startDaemon({
    argv: inNetns(to, process.execPath, SCRIPT, "serve", protocol, address),
    ready: (output) => /^port \d+$/m.test(output),
  });
  try {
    const port = /^port (\d+)$/m.exec(server.output())?.[1] ?? "";
    const dial = inNetns(from, process.execPath, SCRIPT, "dial", protocol, address, port);
    return JSON.parse(await run(dial, { timeoutMs: 10_000 }));
  } finally {
    await server.stop();
  }
}

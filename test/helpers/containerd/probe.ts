// SPDX-License-Identifier: Apache-2.0
//
// Asks, from one network namespace to addresses in another, whether they can be reached and who the other one sees.

import { type Cleanup, run, startDaemon } from "../daemon.ts";
import { inNetns } from "../netns.ts";

const SCRIPT = new URL("./probe.script.ts", import.meta.url).pathname;

export interface ProbeQuestion {
  readonly protocol: "tcp" | "udp";
  readonly address: string;
  readonly port: number;
}

/**
 * The sender's address, as it has it and as the receiver saw it: the same, when nothing on the way translates. Without an
 * answer `seen` says why.
 */
export interface ProbeAnswer {
  readonly local: string;
  readonly seen: string;
}

/** Ports of a receiver, which answers on all addresses of its namespace. */
export interface Receiver {
  readonly tcp: number;
  readonly udp: number;
}

/** Starts a receiver in the network namespace of a file, on `port` or on ports that are free. `cleanup` stops it. */
export async function startReceiver(netns: string, cleanup: Cleanup, port = 0): Promise<Receiver> {
  const daemon = await startDaemon({
    argv: inNetns(netns, process.execPath, SCRIPT, "serve", String(port)),
    ready: (output) => output.endsWith("}\n"),
  });
  cleanup.add(() => daemon.stop());
  return JSON.parse(daemon.output());
}

/** Sends from the network namespace of a file, everything at once. Never fails for want of an answer. */
export async function probe(netns: string, questions: readonly ProbeQuestion[]): Promise<ProbeAnswer[]> {
  return JSON.parse(await run(inNetns(netns, process.execPath, SCRIPT, "dial", JSON.stringify(questions))));
}

// SPDX-License-Identifier: Apache-2.0
//
// UDP datagrams from whatever address a sender chooses, and what of them arrives.

import { type Cleanup, run, startDaemon } from "./daemon.ts";
import { inNetns } from "./netns.ts";

const SCRIPT = new URL("./datagrams.script.ts", import.meta.url).pathname;

export interface Datagram {
  /** The sender's address; it has to have it. */
  readonly from: string;
  readonly to: string;
  readonly port: number;
  readonly text: string;
}

export interface Mailbox {
  readonly port: number;
  /** What has arrived until now, in order. */
  received(): { from: string; text: string }[];
}

/** Listens on all addresses of the network namespace of a file, until `cleanup` ends it. */
export async function openMailbox(netns: string, cleanup: Cleanup): Promise<Mailbox> {
  const daemon = await startDaemon({
    argv: inNetns(netns, process.execPath, SCRIPT, "listen"),
    ready: (output) => output.includes("}\n"),
  });
  cleanup.add(() => daemon.stop());
  const lines = () =>
    daemon
      .output()
      .split("\n")
      .slice(0, -1)
      .map((line) => JSON.parse(line));
  return { port: lines()[0].port, received: () => lines().slice(1) };
}

/** Sends the datagrams from the network namespace of a file, one after the other. */
export async function sendDatagrams(netns: string, datagrams: readonly Datagram[]): Promise<void> {
  await run(inNetns(netns, process.execPath, SCRIPT, "send", JSON.stringify(datagrams)));
}

// SPDX-License-Identifier: Apache-2.0
//
// Datagrams that are sent without a pause, from before there is a way: as soon as there is one, the first is on it.
import { type Cleanup, type Daemon, startDaemon, waitFor } from "./daemon.ts";
import { inNetns } from "./netns.ts";

const SCRIPT = new URL("./flood.script.ts", import.meta.url).pathname;

export interface Flood {
  /** The text of a datagram is its label and its number, from 0. */
  readonly targets: readonly { readonly address: string; readonly port: number; readonly label: string }[];
  /** Between datagrams, in microseconds. */
  readonly intervalUs: number;
}

export interface Flooding {
  /** How many went, by label. */
  stop(): Promise<Readonly<Record<string, number>>>;
}

/** Sends from the network namespace of a file, until it is stopped or `cleanup` ends it. */
export async function flood(netns: string, what: Flood, cleanup: Cleanup): Promise<Flooding> {
  const daemon: Daemon = await startDaemon({
    argv: inNetns(netns, process.execPath, SCRIPT, JSON.stringify(what)),
    ready: (output) => output.includes("ready\n"),
  });
  cleanup.add(() => daemon.stop("SIGKILL"));
  return {
    stop: async () => {
      await daemon.stop("close stdin");
      // A process may be gone before what it said has been read.
      await waitFor(() => daemon.output().includes("}\n"));
      return JSON.parse(daemon.output().split("\n")[1] ?? "");
    },
  };
}

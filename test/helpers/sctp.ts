// SPDX-License-Identifier: Apache-2.0
//
// SCTP's first two messages in packets made by hand, since not every kernel has the protocol itself: who asks sends an INIT,
// who is asked answers with an INIT ACK (RFC 9260, section 5.1), and with what it saw in the place of the state cookie.

import { type Cleanup, run, startDaemon } from "./daemon.ts";
import type { Netns } from "./netns.ts";

const SCRIPT = new URL("./sctp.script.ts", import.meta.url).pathname;

export interface SctpProbe {
  readonly to: string;
  readonly port: number;
  readonly sourcePort: number;
  /** How long to repeat the INIT, in milliseconds. */
  readonly timeoutMs: number;
}

/** What the one that answered saw. */
export interface SctpAnswer {
  readonly receiver: string;
  /** The sender's address and port as they came. */
  readonly saw: string;
  readonly sawPort: number;
  /** The port that the INIT came to. */
  readonly port: number;
  /** Whether the checksum was right, which a translation has to see to. */
  readonly intact: boolean;
}

export type SctpProbed =
  /** An INIT ACK with the right tag came from where the INIT was sent to; `intact` as above, but of the answer. */
  | { readonly kind: "answered"; readonly answer: SctpAnswer; readonly intact: boolean }
  /** The errno that a refusal became, or that nothing came. */
  | { readonly kind: "failed"; readonly error: string };

/** Answers every INIT of both families in a network namespace, whatever its port, until `cleanup` ends it. */
export async function answerSctp(netns: Netns, receiver: string, cleanup: Cleanup): Promise<void> {
  for (const family of ["4", "6"]) {
    const daemon = await startDaemon({
      argv: netns.command(process.execPath, SCRIPT, "answer", family, receiver),
      ready: (output) => output.includes("ready"),
    });
    cleanup.add(() => daemon.stop("SIGKILL"));
  }
}

/** Sends INITs until one is answered. */
export async function probeSctp(netns: Netns, probe: SctpProbe): Promise<SctpProbed> {
  return JSON.parse(await run(netns.command(process.execPath, SCRIPT, "probe", JSON.stringify(probe))));
}

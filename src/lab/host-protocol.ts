// SPDX-License-Identifier: Apache-2.0
//
// What the lab and a lab host say to each other: one JSON object a line, requests one way, answers with the request's id
// the other way. Both ends are the same executable, so there is no version.
import type { Family } from "../net/address.ts";
import type { Probed, Target } from "./probe.ts";

/** Longest line in characters, either way. */
export const MAX_LINE = 4 << 20;

export type Request =
  /** Answer probes on this port, over TCP and UDP. */
  | { readonly op: "listen"; readonly port: number; readonly families: readonly Family[] }
  /** Probe all of these; a `probed` comes for each, in any order. */
  | { readonly op: "probe"; readonly targets: readonly Target[]; readonly timeoutMs: number }
  /** Run a program to its end, as a container runtime runs a plugin. */
  | {
      readonly op: "run";
      readonly command: string;
      readonly args: readonly string[];
      readonly env: Readonly<Record<string, string>>;
      readonly stdin: string;
      readonly timeoutMs: number;
    };

export interface RunResult {
  /** Exit code; 128 and more when a signal ended it. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Milliseconds from spawn to exit. */
  readonly ms: number;
}

export type Reply =
  /** Said once, first, without being asked. */
  | { readonly ready: true }
  | { readonly id: number; readonly probed: { readonly index: number; readonly result: Probed } }
  /** The request is done; `own` are the addresses that the host's interfaces have. */
  | { readonly id: number; readonly done: { readonly own?: readonly string[]; readonly run?: RunResult } }
  | { readonly id: number; readonly error: string };

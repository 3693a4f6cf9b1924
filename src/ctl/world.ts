// SPDX-License-Identifier: Apache-2.0
import type { Readable, Writable } from "node:stream";
import type { LabWorld } from "../lab/lab.ts";

/** What the commands see of the outside. */
export interface CtlWorld extends LabWorld {
  readonly stdin: Readable;
  readonly stdout: LabWorld["stdout"] & Writable;
  /** Wall clock, in milliseconds since 1970. */
  readonly now: () => number;
}

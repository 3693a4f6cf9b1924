// SPDX-License-Identifier: Apache-2.0
//
// What all parts of a run share.

import type { Reality } from "../helpers/model/reality.ts";
import type { Counts } from "./counts.ts";
import type { DisturbedNode } from "./disturbed-node.ts";
import type { Ledger } from "./ledger.ts";
import type { Random } from "./random.ts";

export interface TortureRun {
  readonly node: DisturbedNode;
  readonly reality: Reality;
  readonly ledger: Ledger;
  readonly counts: Counts;
  readonly random: Random;
  /** Verbs in flight at once. */
  readonly inFlight: number;
  /** What was done in this round, a line each; emptied between rounds. */
  readonly log: string[];
  /** What must not be, a sentence each. One of them ends the run after its round. */
  readonly violations: string[];
}

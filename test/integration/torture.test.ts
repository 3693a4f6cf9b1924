// SPDX-License-Identifier: Apache-2.0
//
// A short torture (CONTRIBUTING.md has the long one): everything at once and killed anywhere, then what has to hold. The
// seed gives the same choices again, though not the same moments: FLATNET_TORTURE_SEED=<seed>.

import { randomInt } from "node:crypto";
import { expect, test } from "vitest";
import { canUseKernel } from "../helpers/netns.ts";
import { torture } from "../torture/torture.ts";

const ROUNDS = 4;
const SEED = Number(process.env["FLATNET_TORTURE_SEED"] ?? randomInt(2 ** 32));

test.runIf(canUseKernel())(
  "no address has two holders, none is lost and none leaks, whatever is killed, full, late or gone",
  { timeout: 600_000 },
  async () => {
    const say = (line: string) => process.stdout.write(`${line}\n`);
    say(`FLATNET_TORTURE_SEED=${SEED}`);
    const { counts, violations } = await torture({
      ...{ seed: SEED, pods: 80, inFlight: 16, operations: 150, progress: say },
      // As small as the pods just fit in, so that addresses are wanted again before they have rested.
      podCidrs: ["10.77.0.0/25", "fd00:77::/121"],
      another: ({ rounds }) => rounds < ROUNDS,
    });
    say(counts.lines(violations.length).at(-1) ?? "");
    expect(violations).toEqual([]);
    expect(counts.rounds).toBe(ROUNDS);
    // Otherwise the invariants held because nothing happened.
    for (const what of ["operations", "kills", "faults"] as const) expect(counts[what], what).toBeGreaterThan(0);
  },
);

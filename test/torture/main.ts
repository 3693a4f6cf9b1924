// SPDX-License-Identifier: Apache-2.0
//
// npm run torture -- [--minutes N] [--seed S] [--pods P] [--in-flight F]

import { randomInt } from "node:crypto";
import { parseArgs } from "node:util";
import { explain, say } from "../../scripts/repo.ts";
import { torture } from "./torture.ts";

/** A run of so many minutes comes by every fault point, or something is wrong with the test. */
const THOROUGH_MINUTES = 10;

function numberOf(flag: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new RangeError(`--${flag} ${text}: must be a whole number from ${least} to ${most}`);
  }
  return value;
}

async function main(): Promise<boolean> {
  const { values } = parseArgs({
    options: {
      minutes: { type: "string", default: "5" },
      seed: { type: "string", default: `${randomInt(2 ** 32)}` },
      pods: { type: "string", default: "160" },
      "in-flight": { type: "string", default: "24" },
    },
  });
  const minutes = numberOf("minutes", values.minutes, 1, 1440);
  const seed = numberOf("seed", values.seed, 0, 2 ** 32 - 1);
  const pods = numberOf("pods", values.pods, 1, 200);
  const inFlight = numberOf("in-flight", values["in-flight"], 1, 64);
  say(`seed ${seed}`);
  const end = performance.now() + minutes * 60_000;
  const { counts, violations } = await torture({
    ...{ seed, pods, inFlight, operations: 200, progress: say },
    podCidrs: ["10.77.0.0/24", "fd00:77::/64"],
    another: () => performance.now() < end,
  });
  for (const line of counts.lines(violations.length)) say(line);
  const thorough = minutes < THOROUGH_MINUTES || counts.neverHit().length === 0;
  return violations.length === 0 && thorough;
}

try {
  if (!(await main())) process.exitCode = 1;
} catch (error) {
  process.stderr.write(`${explain(error)}\n`);
  process.exitCode = 1;
}

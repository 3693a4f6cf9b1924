// SPDX-License-Identifier: Apache-2.0
//
// A node tortured round by round: docs in CONTRIBUTING.md, "Torture".

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildAll } from "../../scripts/build.ts";
import { hostArch } from "../../scripts/pack/runtimes.ts";
import { Cleanup } from "../helpers/daemon.ts";
import { Reality } from "../helpers/model/reality.ts";
import { addSome, calm, removeAll } from "./calm.ts";
import { chaos } from "./chaos.ts";
import { Counts } from "./counts.ts";
import { createDisturbedNode } from "./disturbed-node.ts";
import { Ledger, type Place } from "./ledger.ts";
import { Random } from "./random.ts";
import type { TortureRun } from "./run.ts";

export interface TortureOptions {
  readonly seed: number;
  /** Places for pods on the node, each with one container at a time. */
  readonly pods: number;
  /** Verbs in flight at once. */
  readonly inFlight: number;
  /** Verbs that are begun in a round. */
  readonly operations: number;
  readonly podCidrs: readonly string[];
  /** Whether there is to be another round. */
  readonly another: (counts: Counts) => boolean;
  /** Told of each round, and of all that was done in one that found violations. */
  readonly progress: (line: string) => void;
}

export interface TortureReport {
  readonly counts: Counts;
  /** A sentence each; none when all is well. */
  readonly violations: readonly string[];
}

/** Every fourth pod has two interfaces. */
function placeOf(index: number, netns: string): Place {
  const ifnames = index % 4 === 0 ? ["eth0", "eth1"] : ["eth0"];
  return { index, ifnames, generation: 0, netns, attachments: [], busy: false };
}

/** Builds what is needed and runs. @throws whatever keeps the torture itself from going on; nothing is left behind */
export async function torture(options: TortureOptions): Promise<TortureReport> {
  await buildAll(hostArch(), false, () => {}, "faults");
  const cleanup = new Cleanup();
  const undo = () => cleanup.run();
  const interrupted = () => void undo().finally(() => process.exit(130));
  process.on("SIGINT", interrupted).on("SIGTERM", interrupted);
  try {
    return await tortureWith(options, cleanup);
  } finally {
    process.off("SIGINT", interrupted).off("SIGTERM", interrupted);
    await undo();
  }
}

async function tortureWith(options: TortureOptions, cleanup: Cleanup): Promise<TortureReport> {
  const { seed, pods, inFlight, podCidrs, progress } = options;
  const directory = mkdtempSync(join(tmpdir(), "flatnet-torture-"));
  let keep = false;
  cleanup.add(() => keep || rmSync(directory, { recursive: true, force: true }));
  const flags = ["--retire-after-seconds", "1", "--history-days", "1", "--cool-down-seconds", "5"];
  const node = await createDisturbedNode(directory, cleanup, { podCidrs, flags });
  const reality = new Reality(node, cleanup);
  const places: Place[] = [];
  for (let index = 0; index < pods; index++) places.push(placeOf(index, (await reality.createPod()).path));
  const ledger = new Ledger(places);
  for (const place of places) ledger.nextContainer(place);
  const counts = new Counts();
  const run: TortureRun = {
    node,
    reality,
    ledger,
    counts,
    random: new Random(seed),
    inFlight,
    log: [],
    violations: [],
  };

  await addSome(run);
  while (run.violations.length === 0 && options.another(counts)) {
    run.log.length = 0;
    const begun = performance.now();
    await chaos(run, options.operations);
    await calm(run);
    counts.rounds++;
    run.violations.push(...node.problems);
    counts.readFaults(node.faults());
    const took = ((performance.now() - begun) / 1000).toFixed(1);
    progress(
      `round ${counts.rounds}: ${took} s, ${ledger.held().length} held, ${counts.operations} operations, ` +
        `${counts.kills} kills, ${counts.neverHit().length} points not hit yet`,
    );
  }
  if (run.violations.length === 0) await removeAll(run);
  const { violations } = run;
  if (violations.length === 0) return { counts, violations };
  keep = true;
  const log = [`seed ${seed}`, ...run.log, ...violations.map((violation) => `VIOLATION ${violation}`)];
  writeFileSync(join(directory, "round.log"), `${log.join("\n")}\n`);
  for (const line of log) progress(line);
  progress(`the round's log and the daemon's are in ${directory}`);
  return { counts, violations };
}

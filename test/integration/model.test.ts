// SPDX-License-Identifier: Apache-2.0
//
// Random sequences of what runtimes, crashes and people do to a node, run by the real programs on the real kernel, with
// the design's invariants looked at after each step. A failure prints the seed and the commands; to run it again:
// FLATNET_MODEL_SEED=<seed>, and FLATNET_MODEL_RUNS=<number> for more runs than are made by default.

import { existsSync, readdirSync, utimesSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { test } from "vitest";
import { Cleanup, run } from "../helpers/daemon.ts";
import { createNode, type FlatnetNode } from "../helpers/flatnet-node.ts";
import { InvariantError, verify } from "../helpers/model/command.ts";
import { commandArbitraries } from "../helpers/model/commands.ts";
import { del } from "../helpers/model/dels.ts";
import { startDaemon } from "../helpers/model/events.ts";
import { Model } from "../helpers/model/model.ts";
import { Reality } from "../helpers/model/reality.ts";
import { canUseKernel } from "../helpers/netns.ts";

const RUNS = Number(process.env["FLATNET_MODEL_RUNS"] ?? 8);
const SEED = process.env["FLATNET_MODEL_SEED"];
/** At most in one run, and about half of it on average; what makes no sense at its time is left out. */
const COMMANDS = 80;

/** So small that they run out, and not of one size. */
const SUBNETS = { 4: "10.77.1.", 6: "fd00:77:1::" } as const;
const POD_CIDRS = [`${SUBNETS[4]}0/29`, `${SUBNETS[6]}/125`];
const CAPACITIES = { 4: 6, 6: 7 } as const;

/** A run takes seconds, so what fails is made smaller for a while only. */
const SHRINK_MS = 60_000;

/** All of the node's kernel that flatnet could have changed. */
async function kernelOf({ netns }: FlatnetNode): Promise<string[]> {
  return Promise.all([
    netns.ip("-details", "address"),
    netns.ip("-4", "-N", "route", "show", "table", "all"),
    netns.ip("-6", "-N", "route", "show", "table", "all"),
    netns.ip("neighbour", "show", "nud", "permanent"),
    run(netns.command("nft", "-s", "list", "ruleset")),
  ]);
}

/** What a killed plugin had begun to write is old by the time anybody may take it away. */
function ageLitter({ journalDir }: FlatnetNode): void {
  if (!existsSync(journalDir)) return;
  for (const name of readdirSync(journalDir).filter((entry) => entry.startsWith("."))) {
    utimesSync(join(journalDir, name), 0, 0);
  }
}

async function runCommands(commands: Iterable<fc.AsyncCommand<Model, Reality>>): Promise<void> {
  const cleanup = new Cleanup();
  try {
    // What a command takes away of a link stays away, for CHECK to find.
    const flags = ["--retire-after-seconds", "1", "--repair", "false"];
    const node = await createNode("model", cleanup, { podCidrs: POD_CIDRS, flags });
    await node.start();
    const reality = new Reality(node, cleanup);
    const model = new Model(CAPACITIES);
    const before = await kernelOf(node);
    await fc.asyncModelRun(() => ({ model, real: reality }), commands);

    if (!model.daemonUp) await startDaemon(model, reality);
    for (const attachment of model.attachments.values()) await del(model, reality, attachment, "its own", true);
    await verify(model, reality);
    // What a daemon makes of the kernel when it starts on what is left.
    await node.stop();
    model.daemonStopped();
    ageLitter(node);
    model.litter = 0;
    await startDaemon(model, reality);
    await verify(model, reality);
    const after = await kernelOf(node);
    const problems = before.map((text, i) =>
      text === after[i] ? [] : [`it was:\n${text}`, `and now it is:\n${after[i]}`],
    );
    if (problems.flat().length > 0) throw new InvariantError(problems.flat(), model);
  } finally {
    await cleanup.run();
  }
}

test.runIf(canUseKernel())(
  "whatever is done to a node, its addresses, links, routes and records agree",
  { timeout: SHRINK_MS * 2 + RUNS * 30_000 },
  async () => {
    let failedAt: number | undefined;
    const property = fc.asyncProperty(
      fc.commands(commandArbitraries(SUBNETS), { maxCommands: COMMANDS, size: "max" }),
      async (commands) => {
        // A smaller failure is not looked for any more: whatever comes counts as good.
        if (failedAt !== undefined && performance.now() - failedAt > SHRINK_MS) return;
        try {
          await runCommands(commands);
        } catch (error) {
          failedAt ??= performance.now();
          throw error;
        }
      },
    );
    await fc.assert(property, { numRuns: RUNS, unbiased: true, ...(SEED === undefined ? {} : { seed: Number(SEED) }) });
  },
);

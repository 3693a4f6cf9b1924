// SPDX-License-Identifier: Apache-2.0
//
// ADDs: alone, again, together, killed, into nothing, without the daemon half-way and before it is there.

import { setTimeout as sleep } from "node:timers/promises";
import type { Finished } from "../daemon.ts";
import { accept, callPlugin, describe } from "./call.ts";
import { type Command, command, InvariantError } from "./command.ts";
import { type Attachment, type Expected, keyOf, type Model, type Wish } from "./model.ts";
import type { Reality } from "./reality.ts";
import { attachmentFor, isThere, NO_WISH, pick, podAt, show, showWish, type Target } from "./target.ts";

async function prepareAdd(model: Model, reality: Reality, target: Target): Promise<Attachment> {
  return attachmentFor(model, await podAt(model, reality, target.pod), target);
}

async function finishAdd(
  model: Model,
  attachment: Attachment,
  wish: Wish,
  finished: Finished,
  expected: readonly Expected[],
): Promise<string> {
  const what = `ADD of ${keyOf(attachment)}`;
  const stdout = accept(model, what, finished, expected);
  if (stdout === undefined) {
    model.addFailed(attachment, wish, JSON.parse(finished.stdout).details ?? "");
    return describe(finished);
  }
  const document = JSON.parse(stdout);
  const addresses: string[] = document.ips.map(({ address }: { address: string }) => address.replace(/\/\d+$/, ""));
  const problems: string[] = [];
  if (attachment.record === "yes" && attachment.addresses !== undefined) {
    const before = attachment.addresses.join(", ");
    if (before !== addresses.join(", ")) problems.push(`${what} gives ${addresses.join(", ")}, and it had ${before}`);
  }
  for (const ip of wish.ips) {
    if (!addresses.includes(ip)) problems.push(`${what} was to give ${ip} and gives ${addresses.join(", ")}`);
  }
  for (const other of model.attachments.values()) {
    if (other === attachment || other.record !== "yes") continue;
    const both = addresses.filter((address) => other.addresses?.includes(address));
    if (both.length > 0) problems.push(`${what} gives ${both.join(", ")}, which ${keyOf(other)} has`);
  }
  if (problems.length > 0) throw new InvariantError(problems, model);
  model.added(attachment, wish, { addresses, document });
  return addresses.join(", ");
}

export function addCommand(target: Target, wish: Wish): Command {
  return command(`ADD ${show(target, wish)}`, async (model, reality) => {
    const attachment = await prepareAdd(model, reality, target);
    const expected = model.expectAdd(attachment, wish);
    return finishAdd(model, attachment, wish, await callPlugin(reality, "ADD", attachment, { wish }), expected);
  });
}

/** @param other what is asked for this time; undefined for the same */
export function addAgainCommand(n: number, other: Wish | undefined): Command {
  return command(
    `ADD again ${n}${other === undefined ? "" : ` with ${showWish(other)}`}`,
    async (model, reality) => {
      const attachment = pick(model, n, isThere) as Attachment;
      const wish = other ?? attachment.wish;
      const expected = model.expectAdd(attachment, wish);
      const finished = await callPlugin(reality, "ADD", attachment, { wish });
      return `${keyOf(attachment)}: ${await finishAdd(model, attachment, wish, finished, expected)}`;
    },
    (model) => pick(model, n, isThere) !== undefined,
  );
}

export function addKilledCommand(target: Target, wish: Wish, killAfterMs: number): Command {
  return command(`ADD ${show(target, wish)} killed after ${killAfterMs} ms`, async (model, reality) => {
    const attachment = await prepareAdd(model, reality, target);
    const expected = model.expectAdd(attachment, wish);
    const finished = await callPlugin(reality, "ADD", attachment, { wish, killAfterMs });
    if (finished.status !== null) return finishAdd(model, attachment, wish, finished, expected);
    // It can't have come further than to the first obstacle that is certain; without a daemon there is nothing to leave.
    if (model.daemonUp && attachment.pod.alive) model.addCutOff(attachment, wish, expected);
    return "killed";
  });
}

/** ADDs that are in flight together, so many that the addresses may run out. */
export function addTogetherCommand(pods: readonly number[]): Command {
  return command(`ADD to pods ${pods.join(", ")} together`, async (model, reality) => {
    const attachments: Attachment[] = [];
    for (const pod of pods) {
      attachments.push(await prepareAdd(model, reality, { pod, container: 0, ifname: "eth0" }));
    }
    const fresh = attachments.filter(({ record }) => record === "no");
    // To each other they are open: who comes first is not known, nor who gives up again.
    for (const attachment of fresh) attachment.record = "open";
    const wish = NO_WISH;
    const expected = attachments.map((attachment) => model.expectAdd(attachment, wish));
    const finished = await Promise.all(
      attachments.map((attachment) => callPlugin(reality, "ADD", attachment, { wish })),
    );
    for (const attachment of fresh) attachment.record = "no";
    const outcomes: string[] = [];
    for (const [i, attachment] of attachments.entries()) {
      outcomes.push(await finishAdd(model, attachment, wish, finished[i] as Finished, expected[i] as Expected[]));
    }
    return outcomes.join("; ");
  });
}

/** The namespace that the runtime names has never been. */
export function addMissingCommand(target: Target): Command {
  return command(`ADD ${show(target)} into nothing`, async (model, reality) => {
    const attachment = attachmentFor(model, await podAt(model, reality, target.pod), target);
    const env = { CNI_NETNS: "/run/netns/there-is-none" };
    const finished = await callPlugin(reality, "ADD", attachment, { env });
    accept(model, "ADD into nothing", finished, [{ code: 4, says: /CNI_NETNS=\/run\/netns\/there-is-none/ }]);
    return describe(finished);
  });
}

/** The ADD waits for the daemon, which works off the journal first. */
export function addDuringStartCommand(target: Target, wish: Wish): Command {
  return command(
    `ADD ${show(target, wish)} while the daemon starts`,
    async (model, reality) => {
      const attachment = await prepareAdd(model, reality, target);
      const adding = callPlugin(reality, "ADD", attachment, { wish, conf: { connectWaitMs: 9_000 } });
      try {
        await reality.node.start();
      } finally {
        await adding;
      }
      // Which of the open ones the daemon still had is not to be known when the ADD has come in between.
      for (const other of model.attachments.values()) other.note = "no";
      model.daemonUp = true;
      return finishAdd(model, attachment, wish, await adding, model.expectAdd(attachment, wish));
    },
    ({ daemonUp }) => !daemonUp,
  );
}

/** The daemon is killed while a verb waits for its answer. */
export function addCutOffCommand(target: Target, wish: Wish, killAfterMs: number): Command {
  return command(
    `ADD ${show(target, wish)} and the daemon killed after ${killAfterMs} ms`,
    async (model, reality) => {
      const attachment = await prepareAdd(model, reality, target);
      const expected = model.expectAdd(attachment, wish);
      const adding = callPlugin(reality, "ADD", attachment, { wish });
      await sleep(killAfterMs);
      await reality.node.stop("SIGKILL");
      const finished = await adding;
      const outcome = await finishAdd(model, attachment, wish, finished, [...expected, { code: 11 }]);
      // What it could not give back when it failed, or was never told.
      if (finished.status !== 0 && attachment.pod.alive) {
        model.perhapsGranted(attachment, wish);
        if (attachment.record === "no") attachment.record = "open";
      }
      model.daemonStopped();
      return outcome;
    },
    ({ daemonUp }) => daemonUp,
  );
}

// SPDX-License-Identifier: Apache-2.0
//
// DELs: alone, twice, together, of strangers, killed, without the daemon half-way.

import { setTimeout as sleep } from "node:timers/promises";
import type { Finished } from "../daemon.ts";
import type { CniEnvironment } from "../plugin.ts";
import { acceptSilence, callPlugin } from "./call.ts";
import { type Command, command } from "./command.ts";
import { type Attachment, type Expected, keyOf, type Model } from "./model.ts";
import type { Reality } from "./reality.ts";
import { attachmentFor, isThere, pick, podAt, show, type Target } from "./target.ts";

export type DelNetns = "its own" | "none" | "another path" | "the node's";

function delEnv(reality: Reality, netns: DelNetns): CniEnvironment {
  if (netns === "none") return { CNI_NETNS: "" };
  if (netns === "another path") return { CNI_NETNS: "/run/netns/there-is-none" };
  return netns === "the node's" ? { CNI_NETNS: reality.node.netns.path } : {};
}

function finishDel(model: Model, attachment: Attachment, finished: Finished, netns: DelNetns): string {
  const expected: Expected[] = [netns === "the node's" ? { code: 8, says: /CNI_NETNS=/ } : "success"];
  const outcome = acceptSilence(model, `DEL of ${keyOf(attachment)}`, finished, expected);
  if (netns !== "the node's") model.deleted(attachment);
  return outcome;
}

export async function del(
  model: Model,
  reality: Reality,
  attachment: Attachment,
  netns: DelNetns,
  withResult: boolean,
) {
  const prevResult = withResult && attachment.result !== undefined ? { prevResult: attachment.result } : {};
  const finished = await callPlugin(reality, "DEL", attachment, { env: delEnv(reality, netns), conf: prevResult });
  return finishDel(model, attachment, finished, netns);
}

export function delCommand(n: number, netns: DelNetns, withResult: boolean, twice: boolean): Command {
  const how = `netns: ${netns}${withResult ? ", prevResult" : ""}${twice ? ", twice" : ""}`;
  return command(
    `DEL ${n} (${how})`,
    async (model, reality) => {
      const attachment = pick(model, n) as Attachment;
      const outcome = await del(model, reality, attachment, netns, withResult);
      if (twice) await del(model, reality, attachment, netns, withResult);
      return `${keyOf(attachment)}: ${outcome}`;
    },
    (model) => pick(model, n) !== undefined,
  );
}

/** DELs that are in flight together. */
export function delTogetherCommand(ns: readonly number[]): Command {
  return command(
    `DEL ${ns.join(", ")} together`,
    async (model, reality) => {
      const attachments = new Set(ns.map((n) => pick(model, n, isThere) as Attachment));
      const deleting = [...attachments].map(async (attachment) => ({
        attachment,
        finished: await callPlugin(reality, "DEL", attachment, {}),
      }));
      const ended = await Promise.all(deleting);
      for (const { attachment, finished } of ended) finishDel(model, attachment, finished, "its own");
      return [...attachments].map(keyOf).join(", ");
    },
    (model) => pick(model, 0, isThere) !== undefined,
  );
}

/** Of a container that was never added. */
export function delUnknownCommand(target: Target): Command {
  return command(`DEL ${show(target)}`, async (model, reality) => {
    const attachment = attachmentFor(model, await podAt(model, reality, target.pod), target);
    return del(model, reality, attachment, "its own", false);
  });
}

export function delKilledCommand(n: number, killAfterMs: number): Command {
  return command(
    `DEL ${n} killed after ${killAfterMs} ms`,
    async (model, reality) => {
      const attachment = pick(model, n, isThere) as Attachment;
      const finished = await callPlugin(reality, "DEL", attachment, { killAfterMs });
      if (finished.status !== null) return `${keyOf(attachment)}: ${finishDel(model, attachment, finished, "its own")}`;
      model.delCutOff(attachment);
      return `${keyOf(attachment)}: killed`;
    },
    (model) => pick(model, n, isThere) !== undefined,
  );
}

export function delCutOffCommand(n: number, killAfterMs: number): Command {
  return command(
    `DEL ${n} and the daemon killed after ${killAfterMs} ms`,
    async (model, reality) => {
      const attachment = pick(model, n, isThere) as Attachment;
      const deleting = callPlugin(reality, "DEL", attachment, {});
      await sleep(killAfterMs);
      await reality.node.stop("SIGKILL");
      const outcome = finishDel(model, attachment, await deleting, "its own");
      model.daemonStopped();
      // The daemon was told, or the note is there.
      attachment.note = "open";
      return `${keyOf(attachment)}: ${outcome}`;
    },
    (model) => model.daemonUp && pick(model, n, isThere) !== undefined,
  );
}

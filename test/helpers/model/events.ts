// SPDX-License-Identifier: Apache-2.0
//
// What happens around the plugin: to the daemon, to pods, and by somebody at a keyboard.

import { waitFor } from "../daemon.ts";
import { type Command, command, InvariantError } from "./command.ts";
import { settle } from "./differences.ts";
import { type Attachment, keyOf, type Model, type ModelPod, type Removable } from "./model.ts";
import type { Reality } from "./reality.ts";
import { newPod, pick } from "./target.ts";

const daemonIsUp = ({ daemonUp }: Model) => daemonUp;
const daemonIsDown = ({ daemonUp }: Model) => !daemonUp;

export function stopDaemonCommand(signal: "SIGTERM" | "SIGKILL"): Command {
  return command(
    `daemon ${signal}`,
    async (model, { node }) => {
      const status = await node.stop(signal);
      model.daemonStopped();
      if (signal === "SIGTERM" && status !== 0) throw new InvariantError([`the daemon ended with ${status}`], model);
      return "down";
    },
    daemonIsUp,
  );
}

export async function startDaemon(model: Model, reality: Reality): Promise<void> {
  await reality.node.start();
  const seen = await reality.see(true);
  settle(model, seen);
  model.daemonStarted(new Set(seen.daemon?.records.map(({ key }) => key)));
}

export const startDaemonCommand = () =>
  command(
    "daemon start",
    async (model, reality) => {
      await startDaemon(model, reality);
      return "up";
    },
    daemonIsDown,
  );

export function vanishCommand(index: number): Command {
  const find = (model: Model) => model.pods.findLast((pod) => pod.index === index && pod.alive);
  return command(
    `the namespace of pod ${index} vanishes`,
    async (model, reality) => {
      const pod = find(model) as ModelPod;
      await reality.removePod(pod.path);
      model.vanished(pod);
      return "gone";
    },
    (model) => find(model) !== undefined,
  );
}

export function newPodCommand(index: number): Command {
  const find = (model: Model) => model.pods.findLast((pod) => pod.index === index);
  return command(
    `pod ${index} comes anew`,
    async (model, reality) => {
      await newPod(model, reality, index);
      return "made";
    },
    (model) => find(model)?.alive === false,
  );
}

/** Waits until the daemon has retired all that have no namespace. */
export const retireCommand = () =>
  command(
    "retirement",
    async (model, reality) => {
      const gone = [...model.attachments.values()].filter(({ pod }) => !pod.alive).map(keyOf);
      await waitFor(async () => {
        const { daemon } = await reality.see(true);
        return daemon?.records.every(({ key }) => !gone.includes(key)) ?? false;
      });
      model.retired();
      return "done";
    },
    (model) => model.daemonUp && [...model.attachments.values()].some((one) => one.record !== "no" && !one.pod.alive),
  );

const isWhole = ({ link, making }: Attachment) => link === "yes" && making === "whole";

export function removeLinkCommand(n: number): Command {
  return command(
    `link ${n} is deleted`,
    async (model, reality) => {
      const attachment = pick(model, n, isWhole) as Attachment;
      await reality.node.netns.ip("link", "delete", attachment.hostIfname);
      model.linkRemoved(attachment);
      return keyOf(attachment);
    },
    (model) => pick(model, n, isWhole) !== undefined,
  );
}

export function removePartCommand(n: number, part: Removable): Command {
  const has = (attachment: Attachment) =>
    isWhole(attachment) && attachment.addresses !== undefined && !attachment.missing.has(part);
  return command(
    `${part} of ${n} is deleted`,
    async (model, reality) => {
      const attachment = pick(model, n, has) as Attachment;
      const { addresses = [], hostIfname, ifname, pod } = attachment;
      const address = addresses.find((one) => one.includes(":") === part.endsWith("6")) as string;
      if (part === "pod address 6") {
        await reality.pod(pod.path).ip("address", "delete", `${address}/128`, "dev", ifname);
      } else await reality.node.netns.ip("route", "delete", address, "dev", hostIfname);
      attachment.missing.add(part);
      return keyOf(attachment);
    },
    (model) => pick(model, n, has) !== undefined,
  );
}
